"""Scores of classes: one for each input, or any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kzoo.errors import KzooError, did_you_mean
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

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# What a score's name begins with that is one class' F1, as in `f1:spam`.
_F1_OF = "f1:"


def class_scores(
    predicted: Sequence[str],
    expected: Sequence[str],
    *,
    named: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Score]:
    """Compare predicted classes with the right ones.

    Args:
        predicted: names of classes.
        expected: the right ones, in the same order.
        named: classes whose own F1 is to be a score too, as `f1:NAME`.
        resamples: as for `translation_scores`.

    Returns:
        `accuracy`; `macro_f1`, the mean of the F1 of all classes that came up or were answered; and `micro_f1`, that
        of all decisions together, which is the accuracy where each input has one class; all from 0 to 1.

    Raises:
        KzooError: there are no examples, or not as many of the one as of the other.

    Example:
        >>> scores = class_scores(["a", "b", "b", "b"], ["a", "a", "b", "b"], named=["b"], resamples=0)
        >>> {name: round(score.value, 3) for name, score in scores.items()}
        {'accuracy': 0.75, 'macro_f1': 0.733, 'micro_f1': 0.75, 'f1:b': 0.8}
    """
    check_counts(expected, predicted)
    return bootstrap(_of_classes(predicted, expected, named), len(expected), resamples)


def compare_classes(
    first: Sequence[str],
    second: Sequence[str],
    expected: Sequence[str],
    *,
    named: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Pair]:
    """Compare two models' classes for the same inputs, in each of the scores of `class_scores`.

    Raises:
        KzooError: as `class_scores` does.
    """
    check_counts(expected, first, second)
    one, other = (_of_classes(side, expected, named) for side in (first, second))
    return paired_bootstrap(one, other, len(expected), resamples)


def label_scores(
    predicted: Sequence[Sequence[str]],
    expected: Sequence[Sequence[str]],
    *,
    named: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Score]:
    """Compare predicted sets of labels with the right ones.

    Args:
        predicted: for each input the names of its labels, perhaps none.
        expected: the right ones.
        named: labels whose own F1 is to be a score too, as `f1:NAME`.
        resamples: as for `translation_scores`.

    Returns:
        `macro_f1`, `micro_f1`, see `class_scores`, and `exact_match`, the share of inputs all of whose labels are
        right; all from 0 to 1.

    Raises:
        KzooError: as `class_scores` does.

    Example:
        >>> scores = label_scores([["a"], ["a", "b"]], [["a"], ["b"]], resamples=0)
        >>> {name: round(score.value, 3) for name, score in scores.items()}
        {'macro_f1': 0.833, 'micro_f1': 0.8, 'exact_match': 0.5}
    """
    check_counts(expected, predicted)
    return bootstrap(_of_sets(predicted, expected, named), len(expected), resamples)


def compare_label_sets(
    first: Sequence[Sequence[str]],
    second: Sequence[Sequence[str]],
    expected: Sequence[Sequence[str]],
    *,
    named: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Pair]:
    """Compare two models' labels for the same inputs, in each of the scores of `label_scores`.

    Raises:
        KzooError: as `class_scores` does.
    """
    check_counts(expected, first, second)
    one, other = (_of_sets(side, expected, named) for side in (first, second))
    return paired_bootstrap(one, other, len(expected), resamples)


def named_classes(names: Sequence[str]) -> list[str]:
    """Return the classes whose own F1 is among some scores.

    Example:
        >>> named_classes(["accuracy", "f1:spam"])
        ['spam']
    """
    return [name.removeprefix(_F1_OF) for name in names if name.startswith(_F1_OF)]


def class_table(
    predicted: Sequence[str], expected: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return `precision`, `recall`, `f1` and `support`, the number of examples, of each class.

    Example:
        >>> class_table(["a", "b", "b"], ["a", "a", "b"], ["a", "b"])["b"]
        {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}
    """
    return label_table(_alone(predicted), _alone(expected), labels)


def label_table(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the same for sets of labels."""
    right, answered = indicators(expected, labels), indicators(predicted, labels)
    hits = right.multiply(answered).sum(axis=0)
    columns = zip(hits, answered.sum(axis=0), right.sum(axis=0), strict=True)
    return {label: shares(*map(int, column)) for label, column in zip(labels, columns, strict=True)}


def shares(hits: int, found: int, right: int) -> dict[str, float]:
    """Return `precision`, `recall`, `f1` and `support` of what was found so often, `hits` times rightly."""
    return {
        "precision": hits / found if found else 0.0,
        "recall": hits / right if right else 0.0,
        "f1": 2 * hits / (found + right) if found + right else 0.0,
        "support": right,
    }


def confusion(predicted: Sequence[str], expected: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each right class was answered by each class, without what never happened.

    Example:
        >>> confusion(["a", "b", "b"], ["a", "a", "b"])
        {'a': {'a': 1, 'b': 1}, 'b': {'b': 1}}
    """
    table: dict[str, dict[str, int]] = {}
    for (right, answer), count in sorted(Counter(zip(expected, predicted, strict=True)).items()):
        table.setdefault(right, {})[answer] = count
    return table


def indicators(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> csr_array:
    """Return a matrix (inputs, labels) that is 1 where a label is in an input's set, int64.

    Raises:
        KzooError: a set has a label that there is not.
    """
    from scipy.sparse import csr_array

    places = {label: place for place, label in enumerate(labels)}
    rows, columns = [], []
    for row, names in enumerate(sets):
        for name in set(names):
            if name not in places:
                raise KzooError(
                    f"Example {row} has the label '{name}', which the model does not know."
                    f"{did_you_mean(name, labels)}"
                )
            rows.append(row)
            columns.append(places[name])
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=(len(sets), len(labels)))


def _alone(names: Sequence[str]) -> list[list[str]]:
    return [[name] for name in names]


def _of_classes(predicted: Sequence[str], expected: Sequence[str], named: Sequence[str]) -> Measure:
    """Return what makes the scores of classes."""
    measure = _of_sets(_alone(predicted), _alone(expected), named)

    def renamed(counts: np.ndarray) -> dict[str, np.ndarray]:
        scores = dict(measure(counts))
        return {"accuracy": scores.pop("exact_match"), **scores}

    return renamed


def _of_sets(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]], named: Sequence[str]
) -> Measure:
    """Return what makes the scores of sets of labels."""
    labels = sorted({*named, *(name for sets in (predicted, expected) for names in sets for name in names)})
    right, answered = indicators(expected, labels), indicators(predicted, labels)
    both, either = right.multiply(answered).tocsr(), right + answered
    same = (either - 2 * both).sum(axis=1) == 0
    columns = {f"{_F1_OF}{name}": labels.index(name) for name in named}

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        hits, mentions = counts @ both, counts @ either
        f1 = ratio(2 * hits, mentions)
        return {
            "macro_f1": ratio(f1.sum(axis=1), (mentions > 0).sum(axis=1)),
            "micro_f1": ratio(2 * hits.sum(axis=1), mentions.sum(axis=1)),
            "exact_match": counts @ same / counts.sum(axis=1),
            **{name: f1[:, column] for name, column in columns.items()},
        }

    return measure
