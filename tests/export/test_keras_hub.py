"""KerasHub's backbones, tiny and with random weights, on whichever backend KERAS_BACKEND names."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest

import kzoo
from tests.optional import require

pytestmark = pytest.mark.backend

VOCABULARY = 60
_SIZE: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24}
_TEXT = {**_SIZE, "vocabulary_size": VOCABULARY, "max_sequence_length": 48}
_IMAGE = {**_SIZE, "patch_size": 4, "image_shape": (16, 16, 3)}

BACKBONES: dict[str, dict[str, Any]] = {
    "BertBackbone": _TEXT,
    "RobertaBackbone": _TEXT,
    "DistilBertBackbone": _TEXT,
    "AlbertBackbone": {**_TEXT, "embedding_dim": 8},
    "ElectraBackbone": {
        **_SIZE,
        "vocab_size": VOCABULARY,
        "embedding_dim": 8,
        "max_sequence_length": 48,
    },
    "DebertaV3Backbone": {**_TEXT, "bucket_size": 8},
    "GPT2Backbone": _TEXT,
    "MistralBackbone": {
        "vocabulary_size": VOCABULARY,
        "num_layers": 2,
        "num_query_heads": 4,
        "num_key_value_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 24,
        "sliding_window": 6,
    },
    "BartBackbone": {**_TEXT, "num_layers": 1},
    "T5Backbone": {**_SIZE, "num_layers": 1, "vocabulary_size": VOCABULARY, "key_value_dim": 8},
    "ViTBackbone": {
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "mlp_dim": 24,
        "patch_size": 4,
        "image_shape": (16, 16, 3),
    },
    "DeiTBackbone": _IMAGE,
    "DINOV2Backbone": _IMAGE,
    "SwinTransformerBackbone": {
        "image_shape": (16, 16, 3),
        "patch_size": 2,
        "embed_dim": 8,
        "depths": (2, 1),
        "num_heads": (2, 2),
        "window_size": 4,
    },
}
# A child process converts on the other backends, 8 seconds each: there, those that TensorFlow rebuilds otherwise.
if keras.backend.backend() != "tensorflow":
    BACKBONES = {name: BACKBONES[name] for name in ("MistralBackbone", "DINOV2Backbone")}


def batch(session: onnxruntime.InferenceSession, size: int, length: int) -> dict[str, np.ndarray]:
    """Random tokens or images; of several rows of tokens, the last is half padding."""
    generator = np.random.default_rng(length)
    arrays = {}
    for value in session.get_inputs():
        shape = [{"batch": size}.get(axis, length) if isinstance(axis, str) else axis for axis in value.shape]
        if value.name.endswith("mask"):
            array = np.ones(shape)
            array[1:, length // 2 :] = 0
        elif "float" in value.type:
            array = generator.standard_normal(shape)
        else:
            array = generator.integers(0, 2 if "segment" in value.name else VOCABULARY, shape)
        dtype = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(bool)": "bool"}[value.type]
        arrays[value.name] = array.astype(dtype)
    return arrays


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_agrees_at_any_batch_and_length(name: str, tmp_path: pathlib.Path) -> None:
    build: Callable[..., keras.Model] = getattr(require("keras_hub.models"), name)
    model, path = build(**BACKBONES[name]), tmp_path / "model.onnx"
    kzoo.export.to_onnx(model, path)
    session = onnxruntime.InferenceSession(str(path))
    names = [value.name for value in session.get_outputs()]
    for size, length in [(1, 9), (2, 30)]:
        inputs = batch(session, size, length)
        given = inputs if isinstance(model.input, dict) else next(iter(inputs.values()))
        expected = model(given)
        if not isinstance(expected, dict):
            expected = {names[0]: expected}
        assert set(names) == set(expected)
        for key, array in zip(names, session.run(names, inputs), strict=True):
            reference = keras.ops.convert_to_numpy(expected[key])
            assert reference.shape[0] == size
            np.testing.assert_allclose(array, reference, rtol=1e-4, atol=1e-4)
