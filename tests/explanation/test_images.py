"""Explanations of Keras models of images: sums that must hold, values that are known, on any backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.explanation import attention_maps, explain, explain_image, rollout
from kzoo.runtime.attribution import log_odds
from kzoo.runtime.image_explanation import patch_weights
from kzoo.vision import ImagePreprocessing
from tests.models.tiny import shaken, tiny

LABELS = ["cat", "dog", "bird"]
SETTINGS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def classifier(family, **options):
    keras.utils.set_random_seed(1)
    model = tiny(family, labels=LABELS, **options)
    size = model.backbone.config.image_size
    model.image_preprocessing = ImagePreprocessing(height=size, width=size, **SETTINGS)
    return shaken(model)


@pytest.fixture(scope="module")
def vit():
    return classifier("ViT")


def odds_of(model, image, label):
    pixels = kzoo.vision.preprocess([image], model.image_preprocessing)
    logits = keras.ops.convert_to_numpy(model({"pixel_values": pixels})["logits"])
    return float(log_odds(logits, LABELS.index(label), True)[0])


@pytest.mark.parametrize("family", [pytest.param("ViT", marks=pytest.mark.backend), "CCT", "DeiT"])
def test_integrated_gradients_are_complete(family, image):
    """Their sum is how far the label's log odds are above those of a black image."""
    model = classifier(family)
    found = explain_image(model, image, label="dog")
    black = odds_of(model, np.zeros_like(image), "dog")
    difference = odds_of(model, image, "dog") - black
    assert found.weights.shape == found.image.shape[:2]
    # Rectifiers bend the line that is summed along.
    tolerance = (3e-2 if family == "CCT" else 1e-2) * max(1, abs(difference))
    assert found.completeness_error <= tolerance
    assert found.weights.sum() == pytest.approx(difference, abs=1.5 * tolerance)


class _Sum(keras.Model):
    """Adds up the red of the upper half for the first class: what each pixel adds is known."""

    task = "image_classification"
    labels = ("yes", "no")
    image_preprocessing = ImagePreprocessing(height=4, width=4, **SETTINGS)

    def __init__(self):
        super().__init__()
        self.built = True

    def signature(self):
        return {"pixel_values": None}

    def call(self, inputs, training=False):
        red = keras.ops.sum(inputs["pixel_values"][:, :2, :, :1], axis=(1, 2))
        return {"logits": keras.ops.concatenate([red, keras.ops.zeros_like(red)], axis=1)}


@pytest.mark.backend
def test_of_a_sum_each_pixel_gets_its_own_share():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    found = explain_image(_Sum(), image, label="yes")
    expected = image[..., 0] / 255 / SETTINGS["std"][0]
    expected[2:] = 0
    np.testing.assert_allclose(found.weights, expected, atol=1e-4)
    np.testing.assert_array_equal(found.image, image)


def test_rollout_is_that_of_the_class_token(vit, image):
    maps = attention_maps(vit, image)
    tokens = maps.shape[-1]
    assert maps.shape[:2] == (vit.backbone.config.num_layers, vit.backbone.config.num_heads)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    found = explain_image(vit, image, "rollout")
    expected = patch_weights(rollout(vit, image)[0])
    side = expected.shape[0]
    assert side**2 == tokens - 1
    step = found.weights.shape[0] // side
    np.testing.assert_allclose(found.weights[::step, ::step], expected, atol=1e-6)


def test_each_kind_has_its_own_way(vit, image):
    with pytest.raises(KzooError, match="explain_image"):
        explain(vit, "a text")
    with pytest.raises(KzooError, match="Only labels of images"):
        explain_image(tiny("ViT", task="features"), image)
    with pytest.raises(KzooError, match="not a model of texts alone, or of images"):
        attention_maps(tiny("CLIP"), image)
