"""Decoding over any step function, in plain numpy."""

from kzoo.search.decoding import Step, generate, greedy, sample

__all__ = ["Step", "generate", "greedy", "sample"]
