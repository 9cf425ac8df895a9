"""Explanations of what bundles give to images: values that are known, and pictures of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.errors import KzooError
from kzoo.runtime.explanation import attention_maps, explain, methods
from kzoo.runtime.image_explanation import enlarge, explain_image, patch_weights, reading_row
from kzoo.runtime.shading import draw_image, shade
from tests.bundles import write_image_classifier, write_text_classifier


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    """A classifier of 8 x 8 grey images whose log odds of the second label are 8 times the mean pixel value."""
    return kzoo.load(write_image_classifier(tmp_path_factory.mktemp("bundles") / "shade"), device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)


def test_occlusion_finds_what_each_pixel_adds(brightness, image):
    label = brightness.class_names(2)[1]
    found = explain_image(brightness, image, label=label)
    values = (image / 255 - 0.5) / 0.5
    assert (found.method, found.label) == ("occlusion", label) == (methods(brightness)[0], label)
    np.testing.assert_allclose(found.weights, 8 * (values - values.mean()) / 64, atol=1e-5)
    np.testing.assert_array_equal(found.image[..., 0], image)
    assert found.score == pytest.approx(1 / (1 + np.exp(-8 * values.mean())), abs=1e-4)
    other = explain_image(brightness, image, label=brightness.class_names(2)[0])
    np.testing.assert_allclose(other.weights, -found.weights, atol=1e-6)
    assert found.as_dict()["weights"][3][4] == pytest.approx(found.weights[3, 4])


def test_mistakes(brightness, image, tmp_path):
    with pytest.raises(KzooError, match="no method 'rollout'"):
        explain_image(brightness, image, method="rollout")
    with pytest.raises(KzooError, match="no label 'grey'"):
        explain_image(brightness, image, label="grey")
    with pytest.raises(KzooError, match="explanations=True"):
        attention_maps(brightness, image)
    with pytest.raises(KzooError, match="only labels of texts"):
        explain(brightness, "a text")
    topic = kzoo.load(write_text_classifier(tmp_path / "topic"), device="cpu")
    with pytest.raises(KzooError, match="only labels of images"):
        explain_image(topic, image)


def test_patches_stand_in_their_places():
    row = np.arange(6) / 15
    np.testing.assert_allclose(patch_weights(row), [[2 / 15, 3 / 15], [4 / 15, 5 / 15]])
    attention = np.random.default_rng(0).random((5, 5))
    np.testing.assert_array_equal(reading_row(attention), attention[0])
    np.testing.assert_allclose(reading_row(attention[:4, :4]), attention[:4, :4].mean(axis=0))
    large = enlarge(np.array([[1, 2], [3, 4]]), 4, 6)
    assert large.tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2


def test_parts_are_coloured_by_their_weights(brightness, image, tmp_path):
    shaded = shade(np.full((8, 8, 1), 128, np.uint8), np.array([[1.0, -1.0], [0.0, 0.0]]))
    assert shaded.shape == (224, 224, 3)
    (first, second), (third, _) = shaded[::112, ::112].astype(int)
    assert first[2] > first[0] + 60 and second[0] > second[2] + 60
    assert third[0] == third[1] == third[2]
    draw_image(explain_image(brightness, image), tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as picture:
        assert picture.width > picture.height > 100
    with pytest.raises(KzooError, match=r"does not end in \.png"):
        draw_image(explain_image(brightness, image), tmp_path / "image.jpg")
