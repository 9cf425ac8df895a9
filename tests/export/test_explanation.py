"""Bundles that carry the graph of their explanations."""

from __future__ import annotations

import math

import keras
import numpy as np
import onnx
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.explanation import attention_maps
from kzoo.explanation import explain as explain_in_keras
from kzoo.explanation import explain_image as explain_image_in_keras
from kzoo.runtime.explanation import attention_maps as attention_of_bundle
from kzoo.runtime.explanation import explain, methods
from kzoo.runtime.image_explanation import explain_image
from kzoo.text import Tokenizer
from tests.models.tiny import shaken, tiny

TEXT = "the dog sleeps on the market"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    tokenizer = Tokenizer.train(
        ["the dog runs fast", "a cat sleeps on monday in the market"] * 3, vocab_size=200
    )
    # Wide enough for its weights to be worth 8 bits.
    return tiny(
        "Bert",
        task="classification",
        labels=["animal", "business", "sport"],
        tokenizer=tokenizer,
        hidden_dim=64,
        intermediate_dim=128,
        num_layers=1,
    )


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    reports = {
        dtype: model.export(root / dtype, dtype=dtype, explanations=True) for dtype in ("float32", "int8")
    }
    return root, reports


@pytest.mark.slow
def test_a_bundle_explains_as_keras_does(model, exported):
    pipeline = kzoo.load(exported[0] / "float32", device="cpu")
    assert methods(pipeline) == ("integrated_gradients", "rollout", "occlusion")
    for method in methods(pipeline):
        found = explain(pipeline, TEXT, label="sport", method=method)
        expected = explain_in_keras(model, TEXT, method, "sport")
        assert (found.words, found.method) == (expected.words, method)
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-4)
    assert explain(pipeline, TEXT).method == "integrated_gradients"
    np.testing.assert_allclose(attention_of_bundle(pipeline, TEXT), attention_maps(model, TEXT), atol=1e-5)


@pytest.mark.slow
def test_in_8_bits_it_explains_the_weights_that_it_has(model, exported):
    pipeline = kzoo.load(exported[0] / "int8", device="cpu")
    found = explain(pipeline, TEXT, label="sport")
    expected = explain_in_keras(model, TEXT, label="sport")
    assert found.completeness_error < 1e-3
    assert np.corrcoef(found.weights, expected.weights)[0, 1] > 0.95
    pipeline.verify()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("int8", 1)])
def test_weights_are_not_there_twice(exported, dtype, width):
    """Beside its nodes and what is small, the graph holds attention's projections, which the other one packs."""
    graph = onnx.load(exported[0] / dtype / "explanation.onnx", load_external_data=False).graph
    own = sum(len(tensor.raw_data) for tensor in graph.initializer)
    shared = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert own < width * 3 * 64 * 64 + 8_000
    assert sum(math.prod(tensor.dims) for tensor in shared) > 64 * 300 + 2 * 64 * 128
    places = {entry.value for tensor in shared for entry in tensor.external_data if entry.key == "location"}
    assert places == {"model.onnx"}


@pytest.mark.slow
def test_the_graph_is_opened_when_first_asked_for(exported, monkeypatch):
    from kzoo.runtime import tasks

    opened = []
    original = tasks.open_session

    def watched(path, *arguments):
        opened.append(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(tasks, "open_session", watched)
    pipeline = kzoo.load(exported[0] / "int8", device="cpu")
    pipeline(TEXT)
    explain(pipeline, TEXT, method="occlusion")
    assert opened == ["model.onnx"]
    explain(pipeline, TEXT)
    explain(pipeline, TEXT)
    assert opened == ["model.onnx", "explanation.onnx"]


def test_a_bundle_without_it_says_how_to_get_it(tmp_path):
    from tests.bundles import write_text_classifier

    pipeline = kzoo.load(write_text_classifier(tmp_path / "topic"), device="cpu")
    with pytest.raises(KzooError, match="explanations=True"):
        attention_of_bundle(pipeline, TEXT)


def test_what_cannot_be_explained_is_refused(tmp_path):
    with pytest.raises(KzooError, match="Only labels are explained"):
        tiny("ViT", task="features").export(tmp_path / "image", explanations=True)
    assert not (tmp_path / "image").exists()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ViT", "CCT"])
def test_a_bundle_of_images_explains_as_keras_does(family, tmp_path):
    """CCT's is differentiated through its convolutions and poolings."""
    keras.utils.set_random_seed(0)
    model = shaken(tiny(family, labels=["cat", "dog", "bird"]))
    model.export(tmp_path / "image", explanations=True)
    pipeline = kzoo.load(tmp_path / "image", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    # Where a rectifier or a pooling bends, a last bit puts a point of the line on its other side.
    tolerance = 2e-3 if family == "CCT" else 1e-4
    for method in methods(pipeline):
        found = explain_image(pipeline, image, label="dog", method=method)
        expected = explain_image_in_keras(model, image, method, "dog")
        np.testing.assert_allclose(found.weights, expected.weights, atol=tolerance)
        assert found.score == pytest.approx(expected.score, abs=1e-4)
    np.testing.assert_allclose(attention_of_bundle(pipeline, image), attention_maps(model, image), atol=1e-5)
