"""What goes to Keras in place of a user's data, and what is refused on the way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.training import batches
from kzoo.vision import preprocess
from tests.models.tiny import MAX_POSITIONS, tiny
from tests.optional import require
from tests.training.sources import BATCH, LABELS, SOURCES, STEPS, TEXTS


@pytest.fixture(scope="module")
def bert(wordpiece):
    return tiny("Bert", num_layers=1, tokenizer=wordpiece)


@pytest.fixture(scope="module")
def vit():
    return tiny("ViT", num_layers=1, num_classes=3)


@pytest.fixture
def text_batches():
    def make(texts, shuffle=True, batch_size=4, y=None):
        def encoder(texts, y=None, sample_weight=None, length=None):
            return texts, y

        return batches.EncodedBatches(texts, y, None, encoder, batch_size, shuffle)

    return make


def test_every_text_comes_once_an_epoch_in_a_new_order(text_batches):
    texts = [str(index) for index in range(50)]
    data = text_batches(texts)
    epochs = []
    for _ in range(2):
        epochs.append(list(itertools.chain.from_iterable(data[index][0] for index in range(len(data)))))
        data.on_epoch_end()
    assert len(data) == 13
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(texts)
    assert epochs[0] != epochs[1]


def test_texts_keep_their_labels(text_batches):
    data = text_batches([str(index) for index in range(50)], y=np.arange(50))
    for index in range(len(data)):
        texts, labels = data[index]
        assert [int(text) for text in texts] == labels.tolist()


def test_texts_of_like_length_share_a_batch(text_batches):
    rng = np.random.default_rng(0)
    texts = ["x" * size for size in rng.integers(1, 200, 128)]
    data = text_batches(texts, batch_size=8)
    spread = [max(map(len, data[index][0])) - min(map(len, data[index][0])) for index in range(len(data))]
    assert np.mean(spread) < 30


def test_unshuffled_texts_keep_their_order(text_batches):
    data = text_batches(TEXTS, shuffle=False)
    assert [text for index in range(len(data)) for text in data[index][0]] == TEXTS


@pytest.mark.parametrize(("size", "bucket"), [(1, 8), (8, 8), (9, 16), (50, 64), (300, 300), (2000, 300)])
def test_lengths_are_few_and_at_most_the_models(size, bucket):
    assert batches.bucket_length(size, 300) == bucket


@pytest.mark.parametrize(
    "x",
    [
        ["a"],
        ("a", "b"),
        [("a", "b")],
        [["a", "b"]],
        np.array(["a"]),
        np.array(["a"], object),
        np.array([b"a"]),
        np.array([["a", "b"]]),
    ],
)
def test_what_is_text(x):
    assert batches.is_text(x)


@pytest.mark.parametrize("x", [[1], [[1, 2]], np.array([1]), [], None, {"input_ids": [1]}, "a lone string"])
def test_what_is_not_text(x):
    assert not batches.is_text(x)


def test_tensors_of_strings_are_text():
    tf = require("tensorflow")
    assert batches.is_text(tf.constant(["a"]))
    assert batches.to_texts(tf.constant(["ä", "b"])) == ["ä", "b"]


@pytest.mark.backend
@pytest.mark.parametrize("source", SOURCES)
def test_steps_an_epoch_are_known(bert, wordpiece, source):
    encoding = wordpiece.encode(TEXTS, max_length=16)
    arguments = SOURCES[source]({"input_ids": encoding.input_ids})
    data = batches.encode(arguments["x"], arguments.get("y"), None, bert._encoder, batch_size=BATCH)
    assert batches.count(data.x, BATCH) == (None if "generator" in source else STEPS)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("a lone string", [0], "Give a list of texts, not a lone string"),
        ([], [], "x is empty"),
        ({}, [], "x is empty"),
        (None, None, "Cannot learn from a NoneType"),
        (TEXTS, [0, 1], "x has 12 examples, y has 2"),
        (TEXTS, [0, 2] * 6, "The label 2 is outside the classes"),
        (TEXTS, ["dog", "cat", "owl"] * 4, "The labels have 3 different names (cat, dog, owl"),
        ({"ids": np.ones((2, 3))}, [0, 1], "Unknown input 'ids': the model takes input_ids"),
        (
            np.ones((2, MAX_POSITIONS + 1), "int32"),
            [0, 1],
            f"The sequences have {MAX_POSITIONS + 1} tokens, the model takes {MAX_POSITIONS}",
        ),
        ([1, "a"], [0, 1], "input_ids holds what is no number"),
        (["a", 1], [0, 1], "Text 1 is of type int"),
        ([[1, 2], [3]], [0, 1], "The rows of input_ids differ in length: pad them"),
    ],
)
def test_mistakes_with_texts(bert, x, y, message):
    with pytest.raises(KzooError) as caught:
        bert.fit(x, y, verbose=0)
    assert message in str(caught.value)


def test_strings_without_a_tokenizer():
    model = tiny("Bert", num_layers=1)
    with pytest.raises(KzooError) as caught:
        model.fit(TEXTS, LABELS, verbose=0)
    assert "tokenizer='tokenizer.json'" in str(caught.value)
    assert "kzoo.text.Tokenizer.train" in str(caught.value)


def test_an_unknown_label_names_the_nearest(wordpiece):
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece, labels=["business", "sports"])
    with pytest.raises(KzooError, match=r"'sprots' is none of the classes\. Did you mean 'sports'"):
        model.fit(TEXTS, ["business", "sprots"] * 6, verbose=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 9, 8, 3)), "The images have shape (2, 9, 8, 3); the model takes (batch, 8, 8, 3)"),
        (np.zeros((2, 8, 8, 1)), "The images have shape (2, 8, 8, 1)"),
        (np.zeros((8, 8, 3)), "The images have shape (8, 8, 3)"),
        (["cat.png", "dog.png"], "The model reads images; it was given strings"),
    ],
)
def test_mistakes_with_images(vit, x, message):
    with pytest.raises(KzooError) as caught:
        vit.fit(x, [0] * len(x), verbose=0)
    assert message in str(caught.value)


def test_grey_images_need_no_channel_axis():
    model = tiny("ViT", num_layers=1, num_channels=1, num_classes=2)
    inputs = model._encoder.inputs(np.full((2, 8, 8), 255, np.uint8))
    assert inputs["pixel_values"].shape == (2, 8, 8, 1)
    np.testing.assert_allclose(inputs["pixel_values"], 1.0)


def test_eight_bit_images_are_scaled_as_in_serving(vit):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("uint8")
    np.testing.assert_allclose(
        vit._encoder.inputs(images)["pixel_values"],
        preprocess(list(images), vit.image_preprocessing),
        atol=1e-6,
    )


@pytest.mark.parametrize(("share", "count"), [(0.999, 12), (0.5, 1)])
def test_splits_that_leave_nothing(bert, share, count):
    with pytest.raises(KzooError, match="leaves one part empty"):
        bert.fit(TEXTS[:count], LABELS[:count], validation_split=share, verbose=0)


def test_datasets_cannot_be_split(bert):
    with pytest.raises(KzooError, match="validation_split needs arrays or texts"):
        bert.fit(iter([(TEXTS, LABELS)]), validation_split=0.5, verbose=0)


@pytest.mark.backend
def test_sources_with_nothing_in_them(bert):
    tf = require("tensorflow")
    with pytest.raises(KzooError, match=r"The tf\.data\.Dataset is empty"):
        bert.fit(tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).take(0).batch(2), verbose=0)


def test_classes_are_inferred_from_names():
    assert batches.infer_labels(["b", "a", "b"], 2) == ["a", "b"]
    assert batches.infer_labels([1, 0], 2) is None
    assert batches.infer_labels([("b", "a"), ("b",)], 2) == ["a", "b"]
