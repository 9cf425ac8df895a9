"""Graphs for CPUs compute nothing for padding, and give the same for everything else."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

import kzoo
from tests.models.tiny import shaken, tiny

# Padding on the right, on the left, none, and nothing else.
MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
# The first token, which poolers read, and a text of nothing but padding are computed as they are in Keras.
KEPT = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)


def batch(model):
    """Return texts of 5 tokens, padded as `MASK` says."""
    ids = np.random.default_rng(0).integers(1, model.backbone.config.vocab_size, MASK.shape)
    names = model.signature()
    arrays = {"input_ids": ids, "attention_mask": MASK, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name].astype(names[name].dtype) for name in names}


def run(path, inputs, more=()):
    """Run a graph on what it takes of some inputs; `more` are tensors inside it, of which it gives the shapes."""
    proto = onnx.load(str(path))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    taken = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, taken), strict=True))


def products(path):
    """Return the names of what each activation between two products makes."""
    nodes = onnx.load(str(path)).graph.node
    return [node.output[0] for node in nodes if node.op_type in ("BiasGelu", "FastGelu")]


@pytest.mark.parametrize("family", ["Bert", "Albert"])
def test_padding_is_left_out_and_comes_out_as_zeros(family, tmp_path):
    model = shaken(tiny(family, task="features"), by=0.1)
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx", target="cpu")
    assert not any("padding" in reason for graph in report.graphs.values() for reason in graph.unfused)
    inputs = batch(model)
    inner = products(tmp_path / "model.onnx")
    found = run(tmp_path / "model.onnx", inputs, inner)
    assert inner and all(found[name].shape[0] == KEPT.sum() for name in inner)
    expected = keras.ops.convert_to_numpy(model(inputs)["last_hidden_state"])
    np.testing.assert_allclose(found["last_hidden_state"][KEPT], expected[KEPT], atol=1e-4)
    assert not found["last_hidden_state"][~KEPT].any()


@pytest.mark.parametrize("task", ["classification", "embedding", "qa"])
def test_heads_see_no_difference(task, tmp_path):
    model = shaken(tiny("Bert", task=task), by=0.1)
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx", target="cpu")
    assert not any("padding" in reason for graph in report.graphs.values() for reason in graph.unfused)
    inputs = batch(model)
    found = run(tmp_path / "model.onnx", inputs)
    for name, expected in model(inputs).items():
        expected = keras.ops.convert_to_numpy(expected)
        seen = KEPT if expected.shape[:2] == KEPT.shape and task in ("tokens", "qa") else ...
        np.testing.assert_allclose(found[name][seen], expected[seen], atol=1e-4)


def test_a_model_that_looks_at_padding_keeps_it(tmp_path):
    backbone = shaken(tiny("Bert", task="features"), by=0.1)
    inputs = {name: keras.Input((None,), None, "int64", name=name) for name in backbone.signature()}
    everything = ops.mean(backbone(inputs)["last_hidden_state"], axis=1)
    model = keras.Model(inputs, {"mean": layers.Dense(3)(everything)})
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx", target="cpu")
    assert "padding is not left out" in str(report)
    arrays = batch(backbone)
    expected = keras.ops.convert_to_numpy(model(arrays)["mean"])
    np.testing.assert_allclose(run(tmp_path / "model.onnx", arrays)["mean"], expected, atol=1e-4)


def test_a_bundle_repeats_what_it_gave_for_padding(tmp_path, wordpiece):
    model = shaken(tiny("Bert", task="tokens", labels=["O", "B"]), by=0.1)
    model.tokenizer = wordpiece
    for dtype in ("float32", "int8"):
        model.export(tmp_path / dtype, target="cpu", dtype=dtype)
        golden = np.load(tmp_path / dtype / "golden.npz")
        assert any("logits" in name for name in golden)
        assert kzoo.load(tmp_path / dtype).verify() < 0.1
