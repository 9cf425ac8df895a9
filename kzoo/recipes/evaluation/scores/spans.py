"""Scores of labelled words, as CoNLL counts them: by spans, each right as a whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores.classes import shares
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
from kzoo.runtime.spans import label_spans

Words = Sequence[Sequence[str]]


def span_scores(predicted: Words, expected: Words, *, resamples: int = RESAMPLES) -> dict[str, Score]:
    """Compare predicted labels of words with the right ones.

    Args:
        predicted: for each text the label of each word.
        expected: the right ones.
        resamples: as for `translation_scores`; texts are resampled.

    Returns:
        `span_f1`, `span_precision` and `span_recall`, where a span counts as found if its first word, its last word
        and its kind are right; and `token_accuracy`, the share of words with the right label; all from 0 to 1.

    Raises:
        KzooError: there are no texts, or not as many of the one as of the other, or a text has other words.

    Example:
        >>> right = [["B-PER", "I-PER", "O", "B-LOC"]]
        >>> scores = span_scores([["B-PER", "O", "O", "B-LOC"]], right, resamples=0)
        >>> scores["span_f1"].value, scores["token_accuracy"].value
        (0.5, 0.75)
    """
    check_counts(expected, predicted)
    return bootstrap(_measure(predicted, expected), len(expected), resamples)


def compare_spans(
    first: Words, second: Words, expected: Words, *, resamples: int = RESAMPLES
) -> dict[str, Pair]:
    """Compare two models' labels for the same words, in each of the scores of `span_scores`.

    Raises:
        KzooError: as `span_scores` does.
    """
    check_counts(expected, first, second)
    one, other = (_measure(side, expected) for side in (first, second))
    return paired_bootstrap(one, other, len(expected), resamples)


def span_table(predicted: Words, expected: Words) -> dict[str, dict[str, float]]:
    """Return `precision`, `recall`, `f1` and `support`, the number of spans, of each kind of span."""
    known = _labels(predicted, expected)
    counts: dict[str, Counter[str]] = {}
    for found, right in zip(predicted, expected, strict=True):
        spans = {
            side: set(label_spans(labels, known)) for side, labels in (("found", found), ("right", right))
        }
        for side, those in (*spans.items(), ("hits", spans["found"] & spans["right"])):
            for _, _, kind in those:
                counts.setdefault(kind, Counter())[side] += 1
    return {kind: shares(each["hits"], each["found"], each["right"]) for kind, each in sorted(counts.items())}


def _labels(*sides: Words) -> set[str]:
    return {label for texts in sides for labels in texts for label in labels}


def _measure(predicted: Words, expected: Words) -> Measure:
    known, rows = _labels(predicted, expected), []
    for place, (found, right) in enumerate(zip(predicted, expected, strict=True)):
        if len(found) != len(right):
            raise KzooError(f"Text {place} has {len(right)} words, and {len(found)} labels were found.")
        spans, wanted = (set(label_spans(labels, known)) for labels in (found, right))
        hits = sum(one == other for one, other in zip(found, right, strict=True))
        rows.append((len(spans & wanted), len(spans), len(wanted), hits, len(right)))
    table = np.array(rows, np.float64)

    def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
        both, found, wanted, hits, words = (counts @ table).T
        return {
            "span_f1": ratio(2 * both, found + wanted),
            "span_precision": ratio(both, found),
            "span_recall": ratio(both, wanted),
            "token_accuracy": ratio(hits, words),
        }

    return measure
