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
    IGNORED,
    ContrastiveLoss,
    ReplacedTokenAccuracy,
    ReplacedTokenLoss,
    TargetContext,
    class_targets,
    masked_token_targets,
    multilabel_targets,
    next_token_targets,
    number_targets,
    replaced_token_targets,
    seq2seq_targets,
    span_targets,
    token_class_targets,
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
    "y",
    [["b", "a"], np.array(["b", "a"]), np.array([b"b", b"a"], object), [1, 0], (1, 0), np.array([[1], [0]])],
)
def test_class_names_and_ids(y):
    got = targets(class_targets, y)
    assert got.dtype == "int32"
    assert got.tolist() == [1, 0]


def test_mixed_labels_stay_as_they_are():
    got = targets(class_targets, np.array([[0.25, 0.75, 0.0], [0, 0, 1]]))
    assert got.dtype == "float32"
    assert got.tolist() == [[0.25, 0.75, 0.0], [0, 0, 1]]
    assert targets(class_targets, [[0, 1, 0]]).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([[0.5, 0.5]]), "The labels have 2 columns; the model has 3 classes"),
        (np.array([[0.5, 0.4, 0.0]]), "each must add up to 1"),
        (np.array([[1.5, -0.5, 0.0]]), "no probabilities"),
        (np.array([[np.nan, 0.5, 0.5]]), "no probabilities"),
        (np.array([["a", "b", "c"]]), "no probabilities"),
    ],
)
def test_rows_that_are_no_probabilities(y, message):
    with pytest.raises(KzooError, match=message):
        targets(class_targets, y)


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


@pytest.mark.parametrize("y", [[1, 2.5], np.array([1, 2.5]), np.array([[1], [2.5]])])
def test_numbers(y):
    got = targets(number_targets, y)
    assert got.dtype == "float32"
    assert got.tolist() == [[1.0], [2.5]]


def test_what_is_no_number():
    assert targets(number_targets, None) is None
    with pytest.raises(KzooError, match=r"The labels are no numbers, as .*'good'"):
        targets(number_targets, ["good", "bad"])
    with pytest.raises(KzooError, match=r"shape \(1, 2\); expected one number"):
        targets(number_targets, [[1, 2]])


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


# Token classification.

TAGS = ("B-X", "I-X", "O")


def from_texts(wordpiece, function, texts, y, max_length=32, labels=TAGS):
    encoding = wordpiece.encode(texts, max_length=max_length, offsets=True)
    origins = {"offsets": encoding.offsets, "words": encoding.word_ids, "parts": encoding.sequence_ids}
    made = TargetContext(len(labels), labels, encode_texts, is_text, None, texts=texts, **origins)
    inputs = {"input_ids": np.pad(encoding.input_ids, ((0, 0), (0, 3)))}
    return encoding, function(inputs, y, made)[1]


def test_each_words_label_is_its_first_tokens(wordpiece):
    texts = ["the dog zyx", "A  cat-dog runs."]
    encoding, labels = from_texts(
        wordpiece, token_class_targets, texts, [["O", "B-X", "I-X"], ["O", "B-X", "O"]]
    )
    tokens = [wordpiece.decode_batch([[i] for i in row]) for row in encoding.input_ids]
    shown = [
        [(token, TAGS[label]) for token, label in zip(row, line, strict=False) if label != IGNORED]
        for row, line in zip(tokens, labels.tolist(), strict=True)
    ]
    assert shown[0][:2] == [("the", "O"), ("dog", "B-X")]
    assert [tag for _, tag in shown[0]] == ["O", "B-X", "I-X"]
    # The tokenizer parts words at hyphens and full stops; parts of a name that has begun go on with it.
    assert [tag for _, tag in shown[1]] == ["O", "B-X", "I-X", "I-X", "O", "O"]
    assert labels.dtype == "int32" and labels.shape[1] == encoding.input_ids.shape[1] + 3


def test_labels_of_words_that_are_cut_off_do_not_count(wordpiece):
    _, labels = from_texts(wordpiece, token_class_targets, ["the dog runs"], [[0, 1, 2]], max_length=4)
    assert labels[0].tolist()[:4] == [IGNORED, 0, 1, IGNORED]


def test_a_label_for_each_token():
    got = targets(token_class_targets, [[0, 2, IGNORED]], {"input_ids": np.ones((1, 3))})
    assert got.tolist() == [[0, 2, IGNORED]]
    with pytest.raises(KzooError, match="The label 3 is outside"):
        targets(token_class_targets, [[0, 3, IGNORED]], {"input_ids": np.ones((1, 3))})
    with pytest.raises(KzooError, match="Row 0 has 3 labels for 2 tokens"):
        targets(token_class_targets, [[0, 1, 1]], {"input_ids": np.ones((1, 2))})


def test_as_many_labels_as_words(wordpiece):
    with pytest.raises(KzooError, match="'the dog' has 2 words and 3 labels"):
        from_texts(wordpiece, token_class_targets, ["the dog"], [[0, 1, 1]])
    with pytest.raises(KzooError, match="The label 'X' is none of the classes"):
        from_texts(wordpiece, token_class_targets, ["the dog"], [["O", "X"]])


# Question answering.

CONTEXT = "The dog runs in the park."


@pytest.mark.parametrize(
    ("answer", "words"), [((4, 12), "dog runs"), (("dog", 4), "dog"), ((19, 24), "park"), ((24, 25), ".")]
)
def test_answers_are_their_tokens(wordpiece, answer, words):
    encoding, got = from_texts(
        wordpiece, span_targets, [("the cat", "A cat."), ("who", CONTEXT)], [None, answer]
    )
    start, end = got["start_logits"], got["end_logits"]
    assert (start[0], end[0]) == (0, 0)
    assert wordpiece.decode(encoding.input_ids[1, start[1] : end[1] + 1]) == words
    assert encoding.sequence_ids[1, start[1]] == encoding.sequence_ids[1, end[1]] == 1


def test_an_answer_that_is_cut_off_does_not_count(wordpiece):
    pairs = [("who", CONTEXT)] * 2
    _, got = from_texts(wordpiece, span_targets, pairs, [(4, 7), (4, 24)], max_length=11)
    assert got["start_logits"][0] > 0
    assert (got["start_logits"][1], got["end_logits"][1]) == (IGNORED, IGNORED)


def test_first_and_last_token_for_arrays():
    got = targets(span_targets, [(2, 4), (1, 1)], {"input_ids": np.ones((2, 6))})
    assert (got["start_logits"].tolist(), got["end_logits"].tolist()) == ([2, 1], [4, 1])
    with pytest.raises(KzooError, match=r"shape \(2, 3\); expected \(batch, 2\)"):
        targets(span_targets, [(2, 4, 5), (1, 1, 1)], {"input_ids": np.ones((2, 6))})


@pytest.mark.parametrize(
    ("text", "answer", "message"),
    [
        (("who", CONTEXT), ("cat", 4), "The answer 'cat' is not at character 4 of 'The dog"),
        (("who", CONTEXT), (7, 7), r"The answer \(7, 7\) is no part"),
        (("who", CONTEXT), (20, 99), "which has 25 characters"),
        (CONTEXT, (0, 3), r"is no pair: question answering takes \(question, context\)"),
    ],
)
def test_answers_that_are_not_there(wordpiece, text, answer, message):
    with pytest.raises(KzooError, match=message):
        from_texts(wordpiece, span_targets, [text], [answer])


# Masked and replaced tokens.


def test_masking_hides_some_tokens_and_asks_for_them():
    np.random.seed(0)
    ids = np.tile(np.arange(200), (50, 1))
    mask = np.ones_like(ids)
    mask[:, 150:] = 0
    made = TargetContext(
        0, None, encode_texts, is_text, None, mask_id=4, special_ids=frozenset({0, 2, 4}), vocab_size=200
    )
    inputs, labels = masked_token_targets({"input_ids": ids, "attention_mask": mask}, None, made)
    guessed = labels != IGNORED
    assert guessed.sum() == pytest.approx(0.15 * 147 * 50, rel=0.1)
    assert not guessed[:, [0, 2, 4]].any() and not guessed[:, 150:].any()
    np.testing.assert_array_equal(labels[guessed], ids[guessed])
    shown = inputs["input_ids"]
    np.testing.assert_array_equal(shown[~guessed], ids[~guessed])
    assert (shown == 4)[guessed].mean() == pytest.approx(0.8, abs=0.05)
    assert (shown == ids)[guessed].mean() == pytest.approx(0.1, abs=0.04)

    other = masked_token_targets({"input_ids": ids}, None, made)[1]
    np.random.seed(0)
    again = masked_token_targets({"input_ids": ids, "attention_mask": mask}, None, made)[1]
    assert not np.array_equal(other, labels)
    np.testing.assert_array_equal(again, labels)


def test_masking_needs_a_mask():
    with pytest.raises(KzooError, match="needs a tokenizer with a mask token"):
        targets(masked_token_targets, None, {"input_ids": np.ones((2, 6))})


def test_labels_of_replaced_tokens():
    inputs = {"input_ids": np.ones((2, 3))}
    got = targets(replaced_token_targets, [[0, 1], [1, IGNORED, 0]], inputs)
    assert got.tolist() == [[0, 1, IGNORED], [1, IGNORED, 0]]
    with pytest.raises(KzooError, match=r"1 \(replaced\), 0 or -100"):
        targets(replaced_token_targets, [[0, 2], [1, 0]], inputs)
    with pytest.raises(KzooError, match="needs labels for each token"):
        targets(replaced_token_targets, None, inputs)


def test_replaced_token_loss_and_accuracy():
    labels, logits = np.array([[1, 0, IGNORED], [1, 1, IGNORED]]), np.array([[2.0, -1, 9], [-1, 3, -9]])
    each = np.log1p(np.exp([-2.0, -1.0, 1.0, -3.0]))
    assert float(ReplacedTokenLoss()(labels, logits)) == pytest.approx(each.mean(), abs=1e-5)
    metric = ReplacedTokenAccuracy()
    metric.update_state(ops.convert_to_tensor(labels), ops.convert_to_tensor(logits))
    assert float(metric.result()) == pytest.approx(0.75)


def test_contrastive_loss_wants_the_diagonal():
    logits = np.array([[3.0, 1.0], [0.5, 2.0]])
    expected = -np.log([np.exp(3) / (np.exp(3) + np.exp(1)), np.exp(2) / (np.exp(0.5) + np.exp(2))]).mean()
    assert float(ContrastiveLoss()(np.zeros(2), logits)) == pytest.approx(expected, abs=1e-5)
