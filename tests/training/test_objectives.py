"""How labels become targets, and what the losses and metrics over tokens count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from kzoo.errors import KzooError
from kzoo.training import TokenAccuracy, token_loss
from kzoo.training.batches import is_text
from kzoo.training.objectives import (
    TargetContext,
    class_targets,
    multilabel_targets,
    next_token_targets,
    seq2seq_targets,
)


def encode_texts(texts):
    """Give each letter its place in the alphabet, and end with 2."""
    rows = [[ord(letter) - 87 for letter in text] + [2] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), "int32")
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def context(labels=("a", "b", "c")):
    return TargetContext(3, labels, encode_texts, is_text, start_id=1)


def targets(function, y, inputs=None, **options):
    return function(inputs or {}, y, context(**options))[1]


@pytest.mark.parametrize(
    "y", [["b", "a"], np.array(["b", "a"]), np.array([b"b", b"a"], object), [1, 0], (1, 0)]
)
def test_class_names_and_ids(y):
    got = targets(class_targets, y)
    assert got.dtype == "int32"
    assert got.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        (
            [0, 3],
            None,
            "The label 3 is outside the classes: they are 0 to 2. Build the model with num_classes=4",
        ),
        ([0, -1], None, "The label -1 is outside the classes"),
        (["a", "bb"], ("aa", "b"), "The label 'a' is none of the classes. Did you mean 'aa'"),
        (["a"], None, "The labels are names, but the model does not know its classes"),
    ],
)
def test_labels_outside_the_classes(y, labels, message):
    with pytest.raises(KzooError) as caught:
        targets(class_targets, y, labels=labels)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "y",
    [
        [["a", "c"], [], ["b"]],
        [[0, 2], [], [1]],
        [("a", "c"), (), ("b",)],
        np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
    ],
    ids=["names", "ids", "tuples", "rows"],
)
def test_several_labels_each(y):
    got = targets(multilabel_targets, y)
    assert got.dtype == "float32"
    assert got.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_rows_of_another_width():
    with pytest.raises(KzooError, match="The labels have 2 columns; the model has 3 classes"):
        targets(multilabel_targets, np.zeros((4, 2)))


def test_no_labels_no_targets():
    assert targets(class_targets, None) is None
    assert targets(multilabel_targets, None) is None


def test_next_tokens():
    inputs = {
        "input_ids": np.array([[5, 6, 7, 0], [5, 6, 7, 8]]),
        "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]]),
    }
    shortened, labels = next_token_targets(inputs, None, context())
    assert labels.tolist() == [[6, 7, -100], [6, 7, 8]]
    assert shortened["input_ids"].tolist() == [[5, 6, 7], [5, 6, 7]]
    assert shortened["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_next_tokens_as_given():
    inputs, y = {"input_ids": np.zeros((1, 3))}, np.array([[1, 2, 3]])
    assert next_token_targets(inputs, y, context()) == (inputs, y)


def test_one_token_has_no_next():
    with pytest.raises(KzooError, match="A text of one token has no next one"):
        next_token_targets({"input_ids": np.zeros((2, 1))}, None, context())


def test_target_texts():
    inputs, labels = seq2seq_targets({"input_ids": np.zeros((2, 3))}, ["ab", "c"], context())
    assert inputs["decoder_input_ids"].tolist() == [[1, 10, 11], [1, 12, 2]]
    assert labels.tolist() == [[10, 11, 2], [12, 2, -100]]


def test_no_target_side():
    with pytest.raises(KzooError, match="An encoder-decoder needs the target side too"):
        seq2seq_targets({"input_ids": np.zeros((2, 3))}, None, context())


@pytest.mark.backend
def test_token_loss_counts_real_tokens_only():
    logits = np.log(np.array([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]], "float32"))
    loss = token_loss()(ops.convert_to_tensor([[0, 1, -100]]), ops.convert_to_tensor(logits))
    assert float(loss) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2, abs=1e-5)


@pytest.mark.backend
def test_token_accuracy_counts_real_tokens_only():
    metric = TokenAccuracy()
    logits = np.eye(4, dtype="float32")[[[0, 1, 2, 3]]]
    metric.update_state(np.array([[0, 1, 3, -100]]), logits)
    assert float(metric.result()) == pytest.approx(2 / 3)
    metric.update_state(np.array([[0, -100, -100, -100]]), logits)
    assert float(metric.result()) == pytest.approx(3 / 4)
