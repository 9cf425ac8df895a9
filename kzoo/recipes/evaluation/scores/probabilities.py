"""Scores of probabilities: do they rank the right answers first, and do they mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kzoo.recipes.evaluation.scores.resampling import Score, check_counts

BINS = 15
# Each class takes a sort of all inputs.
MOST_RANKED = 500


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: their mean confidence, the share that is right, and how many there are."""

    confidence: float
    accuracy: float
    count: int


def calibration(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Sort answers into bins of equal width by confidence, and leave out those without any.

    Args:
        confidences: (answers,), from 0 to 1.
        right: bool (answers,), whether each was right.
        bins: how many there are.

    Example:
        >>> calibration(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]), bins=2)
        [Bin(confidence=0.1, accuracy=0.0, count=1), Bin(confidence=0.85, accuracy=0.5, count=2)]
    """
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, np.asarray(values, np.float64), bins) for values in (confidences, right)]
    return [
        Bin(round(float(sums[0][place] / count), 12), float(sums[1][place] / count), int(count))
        for place, count in enumerate(counts)
        if count
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Return how far confidence is from the share that is right, on average (Guo et al., 2017, equation 3)."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total


def probability_scores(probabilities: np.ndarray, right: np.ndarray, *, single: bool) -> dict[str, Score]:
    """Score probabilities, rather than the answers that were made of them.

    Args:
        probabilities: (inputs, classes).
        right: bool (inputs, classes), which classes each input has.
        single: whether each input has one class, and its probabilities add up to 1.

    Returns:
        `calibration_error`, from 0, which is best, to 1: of the most probable class where there is one, else of every
        probability; and `roc_auc` and `average_precision`, each the mean over those classes that some inputs have and
        others have not, left out where there are none. No margins.

    Raises:
        KzooError: there are no inputs, or not as many of the one as of the other.
    """
    check_counts(right, probabilities)
    bins = calibration(*confidences(probabilities, right, single=single))
    scores = {"calibration_error": Score(calibration_error(bins))}
    by_class = [one for one in ranking_scores(probabilities, right) if one]
    for name in ("roc_auc", "average_precision"):
        if by_class:
            scores[name] = Score(float(np.mean([one[name] for one in by_class])))
    return scores


def confidences(
    probabilities: np.ndarray, right: np.ndarray, *, single: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the answers, (answers,), and whether each is right, see `probability_scores`."""
    if not single:
        return probabilities.ravel(), right.ravel()
    best = probabilities.argmax(axis=1)[:, None]
    found, hits = (np.take_along_axis(side, best, axis=1)[:, 0] for side in (probabilities, right))
    return found, hits


def ranking_scores(probabilities: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Return `roc_auc` and `average_precision` of each class.

    Nothing of those that all inputs have, or none; nor of any, where there are more than 500.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if right.shape[1] > MOST_RANKED:
        return [{}] * right.shape[1]
    return [
        {
            "roc_auc": float(roc_auc_score(has, chance)),
            "average_precision": float(average_precision_score(has, chance)),
        }
        if 0 < has.sum() < len(has)
        else {}
        for has, chance in zip(right.T, probabilities.T, strict=True)
    ]
