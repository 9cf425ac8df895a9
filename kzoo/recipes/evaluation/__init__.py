"""Scores of a bundle and pictures of them, measured as it will be served."""
