"""Scores of numbers: how well those that were found go with those that were wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kzoo.recipes.evaluation.scores.resampling import (
    RESAMPLES,
    Measure,
    Pair,
    Score,
    bootstrap,
    check_counts,
    paired_bootstrap,
    ratio,
)


def number_scores(
    predicted: Sequence[float], expected: Sequence[float], *, resamples: int = RESAMPLES
) -> dict[str, Score]:
    """Compare numbers with the right ones.

    Args:
        predicted: what was found.
        expected: the right ones, in the same order.
        resamples: as for `translation_scores`.

    Returns:
        `pearson`, the correlation, and `spearman`, that of the ranks; both from -1 to 1, and 0 where all numbers of a
        side are the same.

    Raises:
        KzooError: there are no numbers, or not as many of the one as of the other.

    Example:
        >>> scores = number_scores([1.0, 2.0, 9.0], [0.1, 0.2, 0.3], resamples=0)
        >>> {name: round(score.value, 3) for name, score in scores.items()}
        {'pearson': 0.918, 'spearman': 1.0}
    """
    check_counts(expected, predicted)
    return bootstrap(_measure(predicted, expected), len(expected), resamples)


def compare_numbers(
    first: Sequence[float],
    second: Sequence[float],
    expected: Sequence[float],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Pair]:
    """Compare two models' numbers for the same inputs, in each of the scores of `number_scores`.

    Raises:
        KzooError: as `number_scores` does.
    """
    check_counts(expected, first, second)
    one, other = (_measure(side, expected) for side in (first, second))
    return paired_bootstrap(one, other, len(expected), resamples)


def _measure(predicted: Sequence[float], expected: Sequence[float]) -> Measure:
    found, right = np.asarray(predicted, np.float64), np.asarray(expected, np.float64)

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "pearson": _correlation(found, right, counts),
            "spearman": _correlation(ranks(found, counts), ranks(right, counts), counts),
        }

    return measure


def _correlation(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the correlation in each row of counts (rows, n), of numbers (n,) or (rows, n) that came up so often."""
    total = counts.sum(axis=1, keepdims=True)
    one, other = (side - (side * counts).sum(axis=1, keepdims=True) / total for side in (one, other))
    spread = np.sqrt((counts * one**2).sum(axis=1) * (counts * other**2).sum(axis=1))
    return ratio((counts * one * other).sum(axis=1), spread)


def ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the place of each number (n,) among all, in each row of counts (rows, n); the middle place of equals."""
    different, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], np.arange(len(different)))
    together = np.add.reduceat(counts[:, order], starts, axis=1)
    return (together.cumsum(axis=1) - together / 2)[:, places]
