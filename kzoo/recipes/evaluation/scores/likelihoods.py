"""Scores of language models: how probable a text is to them, or what is hidden in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores.resampling import (
    RESAMPLES,
    Measure,
    Pair,
    Score,
    bootstrap,
    paired_bootstrap,
)
from kzoo.runtime.generation import Likelihood
from kzoo.runtime.tokens import Guesses


def likelihood_scores(parts: Sequence[Likelihood], *, resamples: int = RESAMPLES) -> dict[str, Score]:
    """Say how well a model tells each token of a text from those before.

    Args:
        parts: of the text, as `kzoo.load` gives them.
        resamples: how many resamples of the parts the margins come from; 0 for no margins.

    Returns:
        `nats_per_character`, the mean of minus the natural logarithm of a character's probability,
        `bits_per_character` and `bits_per_byte`, the same by other units: these compare models of any tokens; and
        `perplexity`, which compares models of the same tokens. Lower is better for all.

    Raises:
        KzooError: there is nothing to tell.

    Example:
        >>> scores = likelihood_scores([Likelihood(-2.0, tokens=2, characters=4, size=4)], resamples=0)
        >>> {name: round(score.value, 3) for name, score in scores.items()}
        {'nats_per_character': 0.5, 'bits_per_character': 0.721, 'bits_per_byte': 0.721, 'perplexity': 2.718}
    """
    return bootstrap(_measure(parts), len(parts), resamples if len(parts) > 1 else 0)


def compare_likelihoods(
    first: Sequence[Likelihood], second: Sequence[Likelihood], *, resamples: int = RESAMPLES
) -> dict[str, Pair]:
    """Compare how probable the same texts are to two models, in each of the scores of `likelihood_scores`.

    Raises:
        KzooError: there are fewer than two texts, of which chance can be told.
    """
    return _compare(_measure(first), _measure(second), len(first), resamples)


def _measure(parts: Sequence[Likelihood]) -> Measure:
    table = np.array(
        [[-part.log_probability, part.tokens, part.characters, part.size] for part in parts], np.float64
    ).reshape(-1, 4)
    if not table[:, 2].sum():
        raise KzooError("There is no text to measure on: it needs two characters at least.")

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        nats, tokens, characters, size = (counts @ table).T
        return {
            "nats_per_character": nats / characters,
            "bits_per_character": nats / characters / math.log(2),
            "bits_per_byte": nats / size / math.log(2),
            "perplexity": np.exp(nats / tokens),
        }

    return measure


def guess_scores(parts: Sequence[Guesses], *, resamples: int = RESAMPLES) -> dict[str, Score]:
    """Say how well a model guesses the hidden tokens of texts.

    Args:
        parts: of the texts, as `kzoo.load` gives them.
        resamples: how many resamples of the parts the margins come from; 0 for no margins.

    Returns:
        `perplexity`, e to the mean of minus the natural logarithm of a hidden token's probability, better the lower
        it is, and `masked_accuracy`, the share of them that is taken for the most probable one. They compare models
        of the same tokens.

    Raises:
        KzooError: nothing is hidden.

    Example:
        >>> scores = guess_scores([Guesses(-2.0, tokens=2, right=1)], resamples=0)
        >>> {name: round(score.value, 3) for name, score in scores.items()}
        {'perplexity': 2.718, 'masked_accuracy': 0.5}
    """
    return bootstrap(_measure_guesses(parts), len(parts), resamples if len(parts) > 1 else 0)


def compare_guesses(
    first: Sequence[Guesses], second: Sequence[Guesses], *, resamples: int = RESAMPLES
) -> dict[str, Pair]:
    """Compare how well two models guess hidden tokens of the same texts, in each of the scores of `guess_scores`.

    Raises:
        KzooError: there are fewer than two texts, of which chance can be told.
    """
    return _compare(_measure_guesses(first), _measure_guesses(second), len(first), resamples)


def _measure_guesses(parts: Sequence[Guesses]) -> Measure:
    table = np.array([[-part.log_probability, part.tokens, part.right] for part in parts], np.float64)
    if not len(parts) or not table[:, 1].sum():
        raise KzooError("There is nothing to guess in these texts: they are too short to hide anything.")

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        nats, tokens, right = (counts @ table).T
        # A resample of short texts alone may have nothing hidden.
        tokens = np.maximum(tokens, 1)
        return {"perplexity": np.exp(nats / tokens), "masked_accuracy": right / tokens}

    return measure


def _compare(first: Measure, second: Measure, texts: int, resamples: int) -> dict[str, Pair]:
    if texts < 2:
        raise KzooError("One text says nothing of chance: give several documents to compare two models on.")
    return paired_bootstrap(first, second, texts, resamples)
