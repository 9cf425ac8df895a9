"""Decoding over any step function, in plain numpy."""

from kzoo.search.beams import Hypothesis, beam_search, length_penalty_of
from kzoo.search.constraints import ConstrainedStep, Constraints
from kzoo.search.decoding import Emitted, drawing, emit, generate, greedy, most_probable, sample
from kzoo.search.endings import EndingStep
from kzoo.search.ensembles import AveragedStep, average
from kzoo.search.steps import CachedStep, Runner, Step

__all__ = [
    "AveragedStep",
    "CachedStep",
    "ConstrainedStep",
    "Constraints",
    "Emitted",
    "EndingStep",
    "Hypothesis",
    "Runner",
    "Step",
    "average",
    "beam_search",
    "drawing",
    "emit",
    "generate",
    "greedy",
    "length_penalty_of",
    "most_probable",
    "sample",
]
