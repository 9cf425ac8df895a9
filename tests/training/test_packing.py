"""Documents in rows."""

from itertools import islice

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.training import MaskedBatches, Masking, PackedBatches, Position
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


MASKING = Masking(mask_id=4, vocab_size=100, special_ids=frozenset({0, 1}), share=0.3)


def test_hidden_tokens_are_the_labels_and_all_places_are_read():
    documents = [np.arange(10, 40), np.arange(40, 53)]
    batches = list(MaskedBatches(documents, MASKING, length=8, rows=2, shuffled=False).one_pass())
    ids, mask, starts = (
        np.concatenate([inputs[name].ravel() for inputs, _ in batches])
        for name in ("input_ids", "attention_mask", "document_starts")
    )
    labels = np.concatenate([labels.ravel() for _, labels in batches])
    assert mask.tolist() == [1] * 43 + [0] * 5
    assert (ids[43:] == 0).all() and (labels[43:] == IGNORED).all()
    assert starts[24:32].tolist() == [0] * 6 + [6] * 2
    told = np.where(labels == IGNORED, ids, labels)[:43]
    assert told.tolist() == [*range(10, 40), *range(40, 53)]
    hidden = labels != IGNORED
    assert 4 < hidden.sum() < 25
    assert (ids[hidden] == 4).mean() > 0.5


def test_passes_hide_others_and_streams_the_same():
    batches = MaskedBatches([np.arange(10, 90)], MASKING, length=8, rows=5, shuffled=True, seed=3)
    first, second = ([labels for _, labels in batches.one_pass(number)] for number in (0, 1))
    hidden = [{*np.concatenate(labels).ravel().tolist()} for labels in (first, second)]
    assert hidden[0] != hidden[1]
    _, inputs, labels = next(batches.stream(Position(1, 1)))
    np.testing.assert_array_equal(labels, second[1])
    assert "document_starts" not in inputs


def test_whole_words_are_hidden_together():
    masking = Masking(mask_id=4, vocab_size=100, share=0.4, whole_words=True)
    documents = [np.arange(10, 40)] * 20
    words = [np.arange(30) // 3] * 20
    options = {"length": 30, "rows": 4, "shuffled": False}
    made = MaskedBatches(documents, masking, words=words, **options)
    hidden = np.concatenate([labels for _, labels in made.one_pass()]) != IGNORED
    threes = hidden.reshape(-1, 3).sum(axis=1)
    assert {*threes.tolist()} == {0, 3}
    assert hidden.mean() == pytest.approx(0.4, abs=0.1)
    # The last word of a document and the first of the next are two, though they have one number.
    edges = hidden.reshape(20, 10, 3)[:, :, 0]
    assert (edges[:-1, -1] != edges[1:, 0]).any()
    with pytest.raises(KzooError, match="say which tokens make a word"):
        MaskedBatches(documents, masking, **options)
    with pytest.raises(KzooError, match="give a number between 0 and 1"):
        Masking(mask_id=4, vocab_size=100, share=1.0)
