"""Decoding over any step function, in plain numpy."""

from kzoo.search.beams import Hypothesis, beam_search, length_penalty_of
from kzoo.search.decoding import generate, greedy, sample
from kzoo.search.steps import CachedStep, Runner, Step

__all__ = [
    "CachedStep",
    "Hypothesis",
    "Runner",
    "Step",
    "beam_search",
    "generate",
    "greedy",
    "length_penalty_of",
    "sample",
]
