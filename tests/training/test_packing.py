"""Documents in rows."""

from itertools import islice

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.training import PackedBatches, Position
from kzoo.training.objectives import IGNORED


def test_in_order_every_token_but_the_first_of_a_document_is_told_once():
    documents = [np.arange(10, 17), np.arange(20, 23), np.arange(30, 41)]
    batches = list(PackedBatches(documents, length=4, rows=2, shuffled=False).one_pass())
    told = np.concatenate([labels[labels != IGNORED] for _, labels in batches])
    assert told.tolist() == [token for document in documents for token in document[1:].tolist()]
    for inputs, labels in batches:
        real = labels != IGNORED
        assert (labels[real] == inputs["input_ids"][real] + 1).all()
    inputs, labels = batches[0]
    assert inputs["input_ids"].tolist() == [[10, 11, 12, 13], [14, 15, 16, 20]]
    assert inputs["document_starts"].tolist() == [[0, 0, 0, 0], [0, 0, 0, 3]]
    assert labels.tolist() == [[11, 12, 13, 14], [15, 16, IGNORED, 21]]


def test_one_document_needs_no_starts_and_passes_differ():
    batches = PackedBatches([np.arange(100)], length=8, rows=3, seed=1)
    first, second = (list(batches.one_pass(number)) for number in (0, 1))
    assert all(set(inputs) == {"input_ids"} for inputs, _ in first)
    assert {inputs["input_ids"].shape for inputs, _ in first + second} == {(3, 8)}
    rows = [sorted(inputs["input_ids"][:, 0].tolist()) for inputs, _ in first]
    assert rows != [sorted(inputs["input_ids"][:, 0].tolist()) for inputs, _ in second]
    again = list(batches.one_pass(1))
    for (inputs, labels), (others, other_labels) in zip(second, again, strict=True):
        assert (inputs["input_ids"] == others["input_ids"]).all()
        assert (labels == other_labels).all()


def test_a_stream_begins_anywhere():
    batches = PackedBatches([np.arange(40), np.arange(40, 70)], length=8, rows=3, seed=1)
    whole = list(islice(batches.stream(Position(0, 0)), 9))
    position = whole[5][0]
    assert position.data_pass == 1
    for mine, its in zip(batches.stream(position), whole[5:], strict=False):
        assert mine[0] == its[0]
        assert (mine[2] == its[2]).all()


def test_a_short_text_is_a_row_by_itself():
    ((inputs, labels),) = PackedBatches([np.array([5, 6, 7])], length=8, rows=2, pad_id=9).one_pass()
    assert inputs["input_ids"].tolist() == [[5, 6, 9, 9, 9, 9, 9, 9]] * 2
    assert labels[0].tolist() == [6, 7, *[IGNORED] * 6]
    for documents in ([], [np.array([5])]):
        with pytest.raises(KzooError, match="too little text"):
            PackedBatches(documents, length=8, rows=2)
