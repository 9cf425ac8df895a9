"""Spans of labelled words, as CoNLL's program counts them."""

from __future__ import annotations

import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores import compare_spans, span_scores, span_table


def labelled(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


RIGHT = labelled("B-PER I-PER O B-LOC O", "O O B-ORG I-ORG I-ORG", "B-PER O O", "O O")
# One of two; begins too early, so wrong as a whole; of another kind; nothing there.
FOUND = labelled("B-PER I-PER O O O", "O B-ORG I-ORG I-ORG I-ORG", "B-LOC O O", "O B-PER")


def test_a_span_is_right_as_a_whole_or_not_at_all():
    scores = span_scores(FOUND, RIGHT)
    # Four were found, four are there, one is both.
    assert scores["span_precision"].value == pytest.approx(1 / 4)
    assert scores["span_recall"].value == pytest.approx(1 / 4)
    assert scores["span_f1"].value == pytest.approx(1 / 4)
    assert scores["token_accuracy"].value == pytest.approx(10 / 15)
    assert next(iter(scores)) == "span_f1"
    assert scores["span_f1"].margin > 0


def test_the_table_of_kinds():
    table = span_table(FOUND, RIGHT)
    assert list(table) == ["LOC", "ORG", "PER"]
    assert table["PER"] == {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2}
    assert table["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert span_table([["O"]], [["O"]]) == {}


def test_labels_without_places_are_spans_where_there_is_an_outside():
    right = [["X", "X", "O"], ["X", "X"]]
    assert span_table(right, right)["X"]["support"] == 2
    alone = [["X", "X", "Y"]]
    assert span_table(alone, alone)["X"]["support"] == 2


def test_the_better_one_is_found_out():
    pairs = compare_spans(FOUND * 20, RIGHT * 20, RIGHT * 20)
    assert pairs["span_f1"].second.value == 1
    assert pairs["span_f1"].p_value < 0.01


def test_texts_with_other_words_are_refused():
    with pytest.raises(KzooError, match="Text 1 has 2 words, and 1 labels"):
        span_scores([["O"], ["O"]], [["O"], ["O", "O"]])
