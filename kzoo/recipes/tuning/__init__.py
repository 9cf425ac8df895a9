"""Searching for better numbers of a recipe."""
