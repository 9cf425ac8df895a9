"""Thresholds above which labels are given, chosen on validation data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kzoo.recipes.evaluation.scores.resampling import check_counts, ratio

_FOLDS = 5
# Of a label that scores less at its best, the model knows next to nothing: given ever so often it would be noise.
_LEARNT = 0.1
_SEED = 0
# Makes one threshold for each label of probabilities and what is right, both (inputs, labels).
_Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def tune_thresholds(probabilities: np.ndarray, right: np.ndarray, *, metric: str = "macro_f1") -> np.ndarray:
    """Choose the thresholds that give the best F1 on validation data.

    Either one for all labels, or one for each: whichever scores better on folds of the data that it was not chosen
    on. Of a label with few examples a threshold of its own learns little more than chance.

    Args:
        probabilities: (inputs, labels).
        right: bool (inputs, labels), which labels each input has.
        metric: `"macro_f1"` or `"micro_f1"`, by which the two ways are compared, and one threshold for all is chosen.

    Returns:
        float64 (labels,): a label is given where its probability is at least this.

    Raises:
        KzooError: there are no inputs, or not as many of the one as of the other.

    Example:
        >>> chances = np.array([[0.9], [0.3], [0.2], [0.1]])
        >>> tune_thresholds(chances, np.array([[True], [True], [False], [False]]))
        array([0.26])
    """
    check_counts(right, probabilities)
    ways: list[_Choice] = [lambda chances, has: _one_for_all(chances, has, metric), _one_each]
    if len(right) < _FOLDS:
        return ways[0](probabilities, right)
    order = np.random.default_rng(_SEED).permutation(len(right))
    scores = []
    for choose in ways:
        given = np.zeros(right.shape, bool)
        for fold in range(_FOLDS):
            held = order[fold::_FOLDS]
            rest = np.setdiff1d(order, held)
            given[held] = probabilities[held] >= choose(probabilities[rest], right[rest])
        scores.append(_f1(given, right, metric))
    return ways[int(np.argmax(scores))](probabilities, right)


def _one_for_all(probabilities: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
    scores = {least: _f1(probabilities >= least / 100, right, metric) for least in range(5, 96)}
    best = [least for least, score in scores.items() if score == max(scores.values())]
    return np.full(right.shape[1], best[len(best) // 2] / 100)


def _one_each(probabilities: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return for each label the threshold with the best F1, half-way between two probabilities; or else 0.5."""
    thresholds = np.full(right.shape[1], 0.5)
    for label, (chances, has) in enumerate(zip(probabilities.T, right.T, strict=True)):
        if not has.any():
            continue
        order = np.argsort(-chances, kind="stable")
        ranked, hits = chances[order], has[order].cumsum()
        f1 = 2 * hits / (np.arange(1, len(has) + 1) + has.sum())
        # Equal probabilities are given together.
        f1[:-1][ranked[:-1] == ranked[1:]] = 0
        last = int(f1.argmax())
        if f1[last] < _LEARNT:
            continue
        below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
        thresholds[label] = (ranked[last] + below) / 2
    return thresholds


def _f1(given: np.ndarray, right: np.ndarray, metric: str) -> float:
    hits, mentions = (given & right).sum(axis=0), given.sum(axis=0) + right.sum(axis=0)
    if metric == "micro_f1":
        return float(2 * hits.sum() / max(mentions.sum(), 1))
    return float(ratio(2 * hits, mentions).sum() / max((mentions > 0).sum(), 1))
