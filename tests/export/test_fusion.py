"""Exported graphs are clean: one node where ONNX Runtime has one operator, weights stored once by name."""

from __future__ import annotations

import pathlib
from collections import Counter

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

import kzoo
from kzoo.errors import ExportError
from kzoo.layers import Attention, RotaryScaling, padding_bias, rotary_rotation
from kzoo.text import Tokenizer
from tests.models.tiny import make_inputs, shaken, tiny


def export(model: keras.Model, path: pathlib.Path, **options: object) -> tuple[Counter[str], onnx.ModelProto]:
    kzoo.export.to_onnx(model, path / "model.onnx", **options)
    proto = onnx.load(str(path / "model.onnx"))
    return Counter(node.op_type for node in proto.graph.node), proto


def test_bert_has_four_nodes_for_its_ends_and_seven_a_block(tmp_path):
    model = shaken(tiny("Bert", task="features"), by=0.1)

    class LastHiddenState(keras.Model):
        def call(self, inputs):
            return {"last_hidden_state": model(inputs)["last_hidden_state"]}

    wrapper = LastHiddenState()
    wrapper.model = model
    inputs = {name: array.astype("int64") for name, array in make_inputs(model, 2, 5).items()}
    wrapper(inputs)
    operations, _ = export(wrapper, tmp_path, inputs=inputs)
    blocks = model.backbone.config.num_layers
    assert operations == {
        "Cast": 3,
        "EmbedLayerNormalization": 1,
        "Attention": blocks,
        "MatMul": 3 * blocks,
        "BiasGelu": blocks,
        "SkipLayerNormalization": 2 * blocks,
    }


def test_weights_are_stored_once_under_their_paths_and_packed_ones_under_their_parent(tmp_path):
    model = shaken(tiny("Bert", task="mlm"), by=0.1)
    _, proto = export(model, tmp_path)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    width = model.backbone.config.hidden_dim
    packed = next(name for name in sizes if name.endswith("block_0/attention/kernel"))
    assert sizes[packed] == (width, 3 * width)
    # Filling masks in needs no pooler.
    paths = {variable.path for variable in model.weights if "/pooler/" not in variable.path}
    parts = {
        path for path in paths if any(f"/attention/{part}/" in path for part in ("query", "key", "value"))
    }
    assert paths - parts <= sizes.keys()
    assert not parts & sizes.keys()
    # The table of token embeddings, which the head's logits are made with too, stands there once.
    stored = sum(int(np.prod(shape)) for shape in sizes.values())
    assert stored <= model.count_params() + 200


def test_keras_own_attention_becomes_one_node(tmp_path):
    states = keras.Input((None, 16), name="states")
    mask = keras.Input((None,), dtype="bool", name="mask")
    attended = layers.MultiHeadAttention(4, 8, dropout=0.1)(states, states, attention_mask=mask[:, None, :])
    x = layers.LayerNormalization()(states + attended)
    model = keras.Model([states, mask], layers.Dense(16, activation="gelu", name="out")(x))
    operations, _ = export(model, tmp_path)
    assert operations["Attention"] == operations["SkipLayerNormalization"] == operations["BiasGelu"] == 1
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    x = np.random.default_rng(0).normal(size=(3, 7, 16)).astype("float32")
    shown = np.arange(7) < np.array([[7], [3], [0]])
    actual = session.run(None, {"states": x, "mask": shown})[0]
    # The last row shows no key at all.
    expected = ops.convert_to_numpy(model([x, shown]))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_mask_of_each_head_hides_what_it_hides(tmp_path):
    states, mask = keras.Input((5, 16), name="states"), keras.Input((4, 5, 5), dtype="bool", name="mask")
    attended = layers.MultiHeadAttention(4, 8, dropout=0.1, name="out")(states, states, attention_mask=mask)
    model = keras.Model([states, mask], attended)
    rng = np.random.default_rng(0)
    x, shown = rng.normal(size=(2, 5, 16)).astype("float32"), rng.random((2, 4, 5, 5)) < 0.3
    export(model, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    expected = ops.convert_to_numpy(model([x, shown]))
    np.testing.assert_allclose(session.run(None, {"states": x, "mask": shown})[0], expected, atol=1e-5)


def test_dot_product_attention_and_cross_attention_become_one_node_each(tmp_path):
    class Cross(layers.Layer):
        def call(self, queries, memory):
            split = [ops.reshape(x, (-1, ops.shape(x)[1], 2, 8)) for x in (queries, memory)]
            return ops.reshape(
                ops.dot_product_attention(split[0], split[1], split[1]), (-1, ops.shape(queries)[1], 16)
            )

    queries, memory = keras.Input((None, 16), name="queries"), keras.Input((None, 16), name="memory")
    model = keras.Model([queries, memory], Cross(name="out")(queries, memory))
    operations, _ = export(model, tmp_path)
    assert operations["MultiHeadAttention"] == 1
    assert "Shape" not in operations


def test_llama_turns_groups_and_keeps_its_past_by_one_node_each(tmp_path: pathlib.Path, bpe: Tokenizer):
    scaling = RotaryScaling("linear", factor=2.0)
    knobs = {"num_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "attention_bias": True, "window": None}
    model = shaken(tiny("Llama", tokenizer=bpe, rotary_scaling=scaling, **knobs), by=0.1)
    report = model.export(tmp_path / "bundle")
    proto = onnx.load(str(tmp_path / "bundle" / "model.onnx"))
    # These operators are newer than all others that are written.
    assert report.opset == next(entry.version for entry in proto.opset_import if entry.domain == "") == 23
    operations = Counter(node.op_type for node in proto.graph.node)
    blocks = model.backbone.config.num_layers
    assert operations["Attention"] == operations["QuickGelu"] == operations["Split"] == blocks
    assert operations["RotaryEmbedding"] == operations["SkipSimplifiedLayerNormalization"] == 2 * blocks
    # One product for queries, keys and values, four others; the logits'.
    assert operations["MatMul"] == 5 * blocks + 1
    assert operations["RMSNormalization"] == operations["Cos"] == operations["Sin"] == 1
    assert not {"Softmax", "Expand", "Reshape"} & operations.keys()


def test_one_memory_for_a_group_of_heads_and_any_bias(tmp_path):
    class Grouped(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.attention = Attention(16, 4, num_key_value_heads=2)

        def build(self, *_):
            self.attention.build(None)

        def call(self, states, keys, mask, bias):
            # Positions that all rows share.
            positions = ops.expand_dims(ops.arange(ops.shape(states)[1], dtype="int32"), 0)
            rotation = rotary_rotation(positions, 4)
            own = self.attention.keys_values(states, rotation=rotation)
            hidden = self.attention(states, *own, rotation=rotation, bias=padding_bias(mask))
            whole = self.attention(hidden, keys, keys)
            # The same for all keys: no operator takes it.
            return self.attention(whole, keys, keys, bias=bias)

    states, mask = keras.Input((None, 16), name="states"), keras.Input((None,), name="mask")
    keys, bias = keras.Input((2, None, 4), name="keys"), keras.Input((1, None, 1), name="bias")
    model = keras.Model([states, keys, mask, bias], Grouped(name="out")(states, keys, mask, bias))
    rng = np.random.default_rng(0)
    shapes = {"states": (3, 5, 16), "keys": (3, 2, 7, 4), "bias": (3, 1, 5, 1)}
    arrays = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    arrays["mask"] = (np.arange(5) < [[5], [2], [0]]).astype("float32")
    report = kzoo.export.to_onnx(
        model, tmp_path / "model.onnx", inputs=[arrays[name] for name in ("states", "keys", "mask", "bias")]
    )
    operations = report.graphs["model"].operations
    assert operations["Attention"] == operations["RotaryEmbedding"] == 2
    assert operations["Softmax"] == len(report.graphs["model"].unfused) == 1


def test_a_sum_that_others_read_before_its_normalization_stays_in_order(tmp_path):
    first, second = keras.Input((None, 8), name="first"), keras.Input((None, 8), name="second")
    total = first + second
    early = layers.Dense(8, activation="gelu", name="early")(total)
    late = layers.LayerNormalization(name="late")(total)
    model = keras.Model([first, second], {"joined": early * late, "total": total, "early": early})
    operations, _ = export(model, tmp_path)
    assert operations["SkipLayerNormalization"] == 1


def test_what_cannot_be_one_node_is_said_and_still_right(tmp_path):
    class Biased(layers.Layer):
        def call(self, states, bias):
            heads = ops.reshape(states, (-1, ops.shape(states)[1], 2, 8))
            # The same for all queries, but no mask: the runtime's operator takes neither.
            scores = ops.reshape(bias, (-1, 1, 1, ops.shape(bias)[1]))
            return ops.dot_product_attention(heads, heads, heads, bias=scores)

    states, bias = keras.Input((None, 16), name="states"), keras.Input((None,), name="bias")
    model = keras.Model([states, bias], Biased(name="out")(states, bias))
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert "out" in report.graphs["model"].unfused[0]
    assert "MultiHeadAttention" not in report.graphs["model"].operations


def test_an_export_leaves_keras_as_it_was(tmp_path):
    def parts():
        return layers.MultiHeadAttention._compute_attention, layers.EinsumDense.call, keras.src.ops.nn.gelu

    before = parts()
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(2, activation="gelu", name="out")])
    export(model, tmp_path)
    assert parts() == before
    assert "PyFunc" not in str(ops.gelu(np.ones(2, "float32")))


@pytest.mark.parametrize("family", ["Bert", "Transformer", "T5", "ViT"])
def test_for_cpus_tokens_lie_in_rows(family, tmp_path):
    model = shaken(tiny(family), by=0.1)
    operations, _ = export(model, tmp_path, target="cpu")
    assert operations["MultiHeadAttention"] > 0
    assert not {"Attention", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"} & operations.keys()


@pytest.mark.backend
def test_a_bundle_for_cpus_gives_the_same(tmp_path, wordpiece):
    model = shaken(tiny("Bert", task="classification", num_classes=3), by=0.1)
    model.tokenizer = wordpiece
    for target in ("any", "cpu"):
        model.export(tmp_path / target, target=target)
    texts = ["the dog runs", "a cat sleeps in the tree", ""]
    first, second = (kzoo.load(tmp_path / target)(texts, top_k=3) for target in ("any", "cpu"))
    for one, other in zip(first, second, strict=True):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in other]


def test_an_unknown_target_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="out")])
    with pytest.raises(ExportError, match=r"Unknown target 'cpus'\. Did you mean 'cpu'"):
        kzoo.export.to_onnx(model, tmp_path / "model.onnx", target="cpus")
