"""How sure a score is, and a difference of two: bootstrap resampling of the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kzoo.errors import KzooError

RESAMPLES = 1000
# What resampling may draw in all, and what it may hold at once: examples times resamples.
_MOST_DRAWN, _AT_ONCE = 10_000_000, 1_000_000
_SEED = 12_345  # sacreBLEU's

# Makes scores by name (rows,) of how often each example came up, float64 (rows, examples).
Measure: TypeAlias = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Score:
    """A score, and how sure it is.

    Attributes:
        value: the score.
        margin: half the width of its 95% confidence interval, by bootstrap resampling of the examples; None if it was
            not asked for, or if there is none of this score.
        signature: how it was computed, as sacreBLEU writes it; empty where the score's name says it all.
    """

    value: float
    margin: float | None = None
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.value:.4g}" + (f" ± {self.margin:.2g}" if self.margin is not None else "")


@dataclass(frozen=True)
class Pair:
    """A score of two models on the same examples.

    Attributes:
        first: the first model's.
        second: the second's.
        p_value: how probable a difference at least this large would be if the models were equally good, by paired
            bootstrap resampling (Koehn, 2004): both are scored on the same resamples.
    """

    first: Score
    second: Score
    p_value: float


def bootstrap(measure: Measure, examples: int, resamples: int) -> dict[str, Score]:
    """Return scores with their margins.

    Args:
        measure: makes the scores.
        examples: how many there are.
        resamples: how many resamples the margins come from, fewer where there are more than 10,000 examples; 0 for
            no margins.
    """
    (drawn,) = _resampled([measure], examples, resamples)
    return {
        name: Score(float(value[0]), margin(drawn[name]) if drawn else None)
        for name, value in measure(np.ones((1, examples))).items()
    }


def paired_bootstrap(first: Measure, second: Measure, examples: int, resamples: int) -> dict[str, Pair]:
    """Return two models' scores on the same examples, and on the same resamples of them."""
    one, other = (bootstrap(measure, examples, 0) for measure in (first, second))
    drawn = _resampled([first, second], examples, resamples)
    pairs = {}
    for name in one:
        ones, others = (values[name] for values in drawn)
        apart = others - ones
        beyond = np.abs(apart - apart.mean()) >= abs(other[name].value - one[name].value)
        pairs[name] = Pair(
            Score(one[name].value, margin(ones)),
            Score(other[name].value, margin(others)),
            p_value=float((beyond.sum() + 1) / (len(apart) + 1)),
        )
    return pairs


def _resampled(measures: Sequence[Measure], examples: int, resamples: int) -> list[dict[str, np.ndarray]]:
    """Return each model's scores (resamples,) of the same resamples; nothing of none."""
    times, chance = affordable(resamples, examples), np.random.default_rng(_SEED)
    rows = max(1, _AT_ONCE // examples)
    parts: list[list[Mapping[str, np.ndarray]]] = [[] for _ in measures]
    for start in range(0, times, rows):
        size = min(rows, times - start)
        places = chance.integers(examples, size=(size, examples)) + examples * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * examples).reshape(size, examples)
        for found, measure in zip(parts, measures, strict=True):
            found.append(measure(counts.astype(np.float64)))
    return [
        {name: np.concatenate([part[name] for part in found]) for name in (found[0] if found else ())}
        for found in parts
    ]


def check_counts(expected: Sized, *found: Sized) -> None:
    """Refuse nothing, and different numbers of things.

    Raises:
        KzooError: with both numbers.
    """
    if not len(expected):
        raise KzooError("There is nothing to compare: the list of what should come out is empty.")
    for answers in found:
        if len(answers) != len(expected):
            raise KzooError(
                f"There are {len(answers)} answers, but {len(expected)} things that should come out."
            )


def affordable(resamples: int, examples: int) -> int:
    """Return how many resamples of so many examples take no longer than a reader waits."""
    return min(resamples, max(100, _MOST_DRAWN // examples))


def margin(values: np.ndarray) -> float:
    """Return half the width of the middle 95% of some scores, as sacreBLEU reckons it."""
    ordered = np.sort(values)
    outside = len(values) // 40
    return float(ordered[len(values) - outside - 1] - ordered[outside]) / 2


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return shares, 0 of nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
