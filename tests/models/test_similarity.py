"""CLIP as it is used: texts and images of any number, alone or together, and trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo.errors import KzooError
from tests.models.tiny import shaken, tiny

TEXTS = ["the dog runs", "a cat sleeps on the old sofa", "two birds", "the bank", "a dog"]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype("uint8")


@pytest.mark.backend
def test_each_text_with_each_image(bpe, images):
    model = shaken(tiny("CLIP", tokenizer=bpe))
    got = model.predict({"input_ids": TEXTS, "pixel_values": images}, batch_size=2, verbose=0)
    assert got["logits_per_image"].shape == (3, 5)
    np.testing.assert_array_equal(got["logits_per_text"], got["logits_per_image"].T)
    pair = model.predict({"input_ids": TEXTS[2:3], "pixel_values": images[1:2]}, verbose=0)
    np.testing.assert_allclose(pair["logits_per_image"][0, 0], got["logits_per_image"][1, 2], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(got["text_embeds"], axis=1), 1.0, atol=1e-5)


def test_texts_alone_and_images_alone(bpe, images):
    model = shaken(tiny("CLIP", tokenizer=bpe))
    both = model.predict({"input_ids": TEXTS, "pixel_values": images}, verbose=0)
    texts, pictures = model.predict(TEXTS, verbose=0), model.predict({"pixel_values": images}, verbose=0)
    assert (list(texts), list(pictures)) == (["text_embeds"], ["image_embeds"])
    np.testing.assert_allclose(texts["text_embeds"], both["text_embeds"], atol=1e-5)
    np.testing.assert_allclose(pictures["image_embeds"], both["image_embeds"], atol=1e-5)


def test_features_of_different_numbers(bpe, images):
    got = tiny("CLIP", task="features", tokenizer=bpe).predict(
        {"input_ids": TEXTS, "pixel_values": images}, verbose=0
    )
    assert (len(got["text_embeds"]), len(got["image_embeds"])) == (5, 3)


def test_pairs_are_learnt(bpe, images):
    keras.utils.set_random_seed(0)
    model = tiny("CLIP", tokenizer=bpe)
    pairs = {"input_ids": TEXTS[:3] * 4, "pixel_values": np.concatenate([images] * 4)}
    history = model.fit(pairs, batch_size=3, epochs=5, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]
    with pytest.raises(KzooError, match=r"5 texts and 3 images: .*give pairs"):
        model.fit({"input_ids": TEXTS, "pixel_values": images})


def test_a_tokenizer_that_ends_texts_with_another_token(bpe):
    with pytest.raises(KzooError, match=r"at its highest token id, .* with 2: build the model with end_id=2"):
        tiny("CLIP", tokenizer=bpe, end_id=None)
    with pytest.raises(KzooError, match=r"at its first end_id=5, .* with 2: build the model with end_id=2"):
        tiny("CLIP", tokenizer=bpe, end_id=5)


def test_neither_texts_nor_images():
    mask = np.ones((2, 3), "int32")
    with pytest.raises(KzooError, match="neither input_ids nor pixel_values"):
        tiny("CLIP").backbone({"attention_mask": mask})
