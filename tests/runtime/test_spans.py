"""Spans told by labels."""

from __future__ import annotations

import pytest

from kzoo.runtime.spans import label_spans


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("B-PER I-PER O B-PER", [(0, 2, "PER"), (3, 4, "PER")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("O I-PER O", [(1, 2, "PER")]),
        # Richer schemes say where a span ends.
        ("B-PER E-PER I-PER", [(0, 2, "PER"), (2, 3, "PER")]),
        ("S-PER S-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("B-LOC I-LOC L-LOC U-LOC", [(0, 3, "LOC"), (3, 4, "LOC")]),
        ("X X O Y", [(0, 2, "X"), (3, 4, "Y")]),
        ("X X Y", [(0, 1, "X"), (1, 2, "X"), (2, 3, "Y")]),
        ("X-ray O", [(0, 1, "X-ray")]),
        ("", []),
    ],
)
def test_neighbours_of_one_kind_are_joined(labels, spans):
    assert label_spans(labels.split()) == spans


def test_whether_plain_labels_join_depends_on_all_labels_that_there_are():
    assert label_spans(["X", "X"], ["O", "X"]) == [(0, 2, "X")]
