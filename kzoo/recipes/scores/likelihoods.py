"""Scores of language models: how probable a text is to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.scores.resampling import RESAMPLES, Measure, Pair, Score, bootstrap, paired_bootstrap
from kzoo.runtime.generation import Likelihood


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
    if len(first) < 2:
        raise KzooError("One text says nothing of chance: give several documents to compare two models on.")
    return paired_bootstrap(_measure(first), _measure(second), len(first), resamples)


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
