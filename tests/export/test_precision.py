"""Graphs in other precisions: smaller, near enough to float32, and refused where they are not."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import kzoo
from kzoo.errors import ExportError, VerificationError
from kzoo.export import precision, quantization, reduction
from kzoo.export.weights import stored_values
from kzoo.models import TransformerModel
from kzoo.text import Tokenizer
from tests.models.tiny import shaken, tiny

TEXTS = ["the dog runs in the park", "a cat sleeps", "two birds sing in the tree", "the bank sold its shares"]
WIDE = {"hidden_dim": 64, "num_heads": 4, "intermediate_dim": 128}


@pytest.fixture(scope="module")
def classifier(wordpiece: Tokenizer) -> TransformerModel:
    keras.utils.set_random_seed(0)
    return tiny("Bert", task="classification", num_classes=3, tokenizer=wordpiece, **WIDE)


def stored(path: pathlib.Path) -> dict[int, int]:
    """Return how many numbers of each type a graph stores."""
    counts: dict[int, int] = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        counts[tensor.data_type] = counts.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    return counts


def operations(path: pathlib.Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.backend
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_a_model_in_half_precision_is_held_to_what_its_weights_give_in_float32(
    tmp_path: pathlib.Path, policy: str
) -> None:
    # Slopes of pooled and rectified pixels jump where half precision takes another pixel for the largest.
    model = shaken(tiny("CCT", task="image_classification", num_classes=3, dtype=policy), seed=1)
    report = model.export(tmp_path / "bundle", explanations=policy == "mixed_bfloat16")
    assert report.tolerance == 1e-4
    assert model.compute_dtype == policy.removeprefix("mixed_")
    assert kzoo.load(tmp_path / "bundle").verify() < 1e-3


@pytest.mark.parametrize(
    ("dtype", "kind", "share"), [("float16", TensorProto.FLOAT16, 0.6), ("int8", TensorProto.INT8, 0.4)]
)
def test_a_model_becomes_smaller_and_stays_near(
    classifier: TransformerModel, tmp_path: pathlib.Path, dtype: str, kind: int, share: float
) -> None:
    path, plain = tmp_path / "model.onnx", tmp_path / "plain.onnx"
    report = classifier.export(path, dtype=dtype)
    full = classifier.export(plain)
    assert report.size_bytes < share * full.size_bytes
    counts = stored(path)
    assert counts[kind] > 0.9 * sum(counts.values())
    inputs = {name: np.ones((2, 7), "int64") for name in classifier.signature()}
    session, before = (onnxruntime.InferenceSession(str(each)) for each in (path, plain))
    assert [(value.name, value.type) for value in session.get_inputs()] == [
        (value.name, value.type) for value in before.get_inputs()
    ]
    (logits,), (expected,) = session.run(None, inputs), before.run(None, inputs)
    assert logits.dtype == np.float32
    assert cosine(logits, expected) > precision.BOUNDS[dtype].cosine
    assert report.reduction is not None
    (graph,) = report.reduction.graphs.values()
    assert graph.bytes_after == path.stat().st_size < graph.bytes_before
    assert graph.milliseconds_before > 0 and graph.milliseconds_after > 0
    assert f"model in {dtype}" in str(report)


def test_a_bundle_is_verified_against_what_it_ships_and_keeps_its_report(
    classifier: TransformerModel, tmp_path: pathlib.Path
) -> None:
    calls: list[float] = []

    def accuracy(pipeline: Any) -> float:
        assert len(pipeline(TEXTS)) == len(TEXTS)
        calls.append(0.9 - 0.01 * len(calls))
        return calls[-1]

    report = classifier.export(tmp_path / "bundle", dtype="int8", metric=accuracy, max_drop=0.02)
    assert (report.reduction.metric_before, report.reduction.metric_after) == (0.9, 0.89)
    pipeline = kzoo.load(tmp_path / "bundle")
    assert pipeline.verify() < 1e-3
    assert pipeline.manifest.tolerance == precision.BOUNDS["int8"].repeated
    assert "MatMulIntegerToFloat" in operations(tmp_path / "bundle" / "model.onnx")
    kept = json.loads((tmp_path / "bundle" / "export.json").read_text())["reduction"]
    assert (kept["dtype"], kept["metric_after"]) == ("int8", 0.89)
    assert "metric 0.9 to 0.89" in str(report)


def test_a_metric_that_falls_too_far_leaves_the_old_bundle(
    classifier: TransformerModel, tmp_path: pathlib.Path
) -> None:
    values = iter([0.9, 0.85])
    classifier.export(tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    with pytest.raises(VerificationError, match=r"metric is 0.85, down from 0.9 .* max_drop=0.04"):
        classifier.export(
            tmp_path / "bundle", dtype="int8", metric=lambda pipeline: next(values), max_drop=0.04
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int9"}, "Unknown dtype 'int9'. Did you mean 'int8'"),
        ({"dtype": "bfloat16"}, "no bfloat16 numbers on CPUs.*float16"),
        ({"dtype": "int8_static"}, "needs calibration="),
        ({"dtype": "int8", "calibration": [TEXTS]}, "calibration= is for dtype='int8_static'"),
        ({"dtype": "int8", "max_drop": 0.1}, "give a metric too"),
        ({"metric": lambda pipeline: 1.0}, "metric= compares another dtype"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    classifier: TransformerModel, tmp_path: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        classifier.export(tmp_path / "bundle", **options)
    assert not any(tmp_path.iterdir())


def test_calibration_takes_what_the_bundle_takes(
    classifier: TransformerModel, tmp_path: pathlib.Path
) -> None:
    report = classifier.export(tmp_path / "bundle", dtype="int8_static", calibration=TEXTS)
    found = operations(tmp_path / "bundle" / "model.onnx")
    assert "QuantizeLinear" in found and "DynamicQuantizeLinear" not in found
    assert kzoo.load(tmp_path / "bundle").verify() < 1e-3
    assert report.reduction.dtype == "int8_static"


def test_a_bare_graph_is_not_calibrated_on_texts(
    classifier: TransformerModel, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ExportError, match="texts are for a bundle"):
        classifier.export(tmp_path / "model.onnx", dtype="int8_static", calibration=TEXTS)
    with pytest.raises(ExportError, match="calibration= lacks the inputs attention_mask"):
        batch = {"input_ids": np.ones((2, 3), "int64")}
        classifier.export(tmp_path / "model.onnx", dtype="int8_static", calibration=[batch])
    assert not any(tmp_path.iterdir())


def test_calibration_of_any_keras_model(tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(64)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    batches = np.random.default_rng(0).standard_normal((4, 8, 64)).astype("float32")
    path = tmp_path / "model.onnx"
    kzoo.export.to_onnx(model, path, dtype="int8_static", calibration=list(batches))
    session = onnxruntime.InferenceSession(str(path))
    (output,) = session.run(None, {session.get_inputs()[0].name: batches[0]})
    assert cosine(output, keras.ops.convert_to_numpy(model(batches[0]))) > 0.995
    assert not {"MatMul", "Gemm"} & operations(path)


@pytest.mark.parametrize(
    ("family", "knobs", "dtype"),
    [
        ("GPT2", {}, "int8"),
        # A token that is never written is further away than float16 goes.
        ("Marian", {"unwritten_id": 5}, "float16"),
        ("Llama", {}, "float16"),
    ],
    ids=["gpt2", "marian", "llama"],
)
def test_decoders_too(
    family: str, knobs: dict[str, int], dtype: str, bpe: Tokenizer, tmp_path: pathlib.Path
) -> None:
    model = shaken(tiny(family, tokenizer=bpe, **WIDE, **knobs), by=0.05)
    model.export(tmp_path / "bundle", dtype=dtype)
    generate = kzoo.load(tmp_path / "bundle")
    assert generate.verify() < 1e-3
    assert len(generate(TEXTS, max_new_tokens=3)) == len(TEXTS)


def test_four_bits_shrink_most_and_small_weights_stay(
    classifier: TransformerModel, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "model.onnx"
    classifier.export(path, dtype="int4")
    assert "MatMulNBits" in operations(path)
    classifier.export(tmp_path / "int8.onnx", dtype="int8")
    assert path.stat().st_size < 0.9 * (tmp_path / "int8.onnx").stat().st_size


def test_a_graph_that_is_too_far_from_float32_is_refused(
    classifier: TransformerModel, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(proto: onnx.ModelProto, *arguments: Any) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("kernel"):
                values = stored_values(tensor, arguments[-1])
                tensor.CopyFrom(numpy_helper.from_array(-values, tensor.name))

    monkeypatch.setattr(reduction, "reduce_precision", damaged)
    with pytest.raises(VerificationError, match=r"In float16 the output 'logits' .*Nothing was written"):
        classifier.export(tmp_path / "model.onnx", dtype="float16")
    assert not any(tmp_path.iterdir())


# The passes alone, on graphs made by hand.


def graph_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, Any]],
    output: Any,
) -> onnx.ModelProto:
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, output)],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )


def run(proto: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto)
    (output,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(["output"], inputs)
    return output


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def test_variances_are_summed_in_float32() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("ReduceMean", ["y", "axis"], ["mean"]),
        helper.make_node("Sub", ["y", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axis"], ["variance"]),
        helper.make_node("Add", ["variance", "epsilon"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["output"]),
    ]
    weights = {"weight": normal(64, 64), "axis": np.array([-1]), "epsilon": np.float32(1e-12)}
    proto = graph_of(nodes, weights, {"x": (TensorProto.FLOAT, ["n", 64])}, ["n", 64])
    # Squares of numbers of such size are infinite in half precision.
    x = 100 * normal(3, 64, seed=1)
    expected = run(proto, x=x)
    precision.reduce_precision(proto, "float16")
    assert proto.graph.initializer[0].data_type == TensorProto.FLOAT16
    np.testing.assert_allclose(run(proto, x=x), expected, atol=0.02)


def test_a_mask_that_half_precision_cannot_hold_stays_finite() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("Where", ["mask", "y", "hidden"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["output"], axis=-1),
    ]
    weights = {"weight": normal(64, 64), "hidden": np.float32(-1e9)}
    inputs = {"x": (TensorProto.FLOAT, ["n", 64]), "mask": (TensorProto.BOOL, ["n", 64])}
    proto = graph_of(nodes, weights, inputs, ["n", 64])
    x, mask = normal(2, 64), np.array([[True] * 32 + [False] * 32, [False] * 64])
    expected = run(proto, x=x, mask=mask)
    precision.reduce_precision(proto, "float16")
    np.testing.assert_allclose(run(proto, x=x, mask=mask), expected, atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_what_a_branch_reads_from_outside_still_fits(dtype: str) -> None:
    def branch(name: str, operation: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{name}_result", TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node(operation, ["y", "weight"], [f"{name}_result"])], name, [], [result]
        )

    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node(
            "If",
            ["flag"],
            ["z"],
            then_branch=branch("then", "MatMul"),
            else_branch=branch("else", "Add"),
        ),
        helper.make_node("Tanh", ["z"], ["output"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, [64, 64]), "flag": (TensorProto.BOOL, [])}
    proto = graph_of(nodes, {"weight": normal(64, 64) / 8}, inputs, [64, 64])
    x = normal(64, 64, seed=1)
    expected = run(proto, x=x, flag=np.array(True))
    precision.reduce_precision(proto, dtype)
    assert cosine(run(proto, x=x, flag=np.array(True)), expected) > precision.BOUNDS[dtype].cosine


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_table_that_is_looked_up_and_multiplied_with_is_stored_once(dtype: str) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "head"], ["output"]),
    ]
    # Rows of very different size: one scale for all would lose the small ones.
    table = normal(300, 32) * np.geomspace(1e-3, 10, 300, dtype="float32")[:, None]
    proto = graph_of(nodes, {"table": table}, {"ids": (TensorProto.INT64, ["n", "m"])}, ["n", "m", 300])
    batches = [np.array([[row]]) for row in (0, 150, 299)]
    expected = [run(proto, ids=ids) for ids in batches]
    precision.reduce_precision(proto, dtype)
    assert proto.ByteSize() < 0.4 * table.nbytes
    for ids, wanted in zip(batches, expected, strict=True):
        assert cosine(run(proto, ids=ids), wanted) > 0.999


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_a_bias(dtype: str, transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "weight", "bias"], ["output"], transB=transposed)
    weight = normal(72, 100)
    weights = {"weight": weight.T.copy() if transposed else weight, "bias": normal(100)}
    proto = graph_of([node], weights, {"x": (TensorProto.FLOAT, ["n", 72])}, ["n", 100])
    x = normal(5, 72, seed=1)
    expected = run(proto, x=x)
    precision.reduce_precision(proto, dtype)
    assert cosine(run(proto, x=x), expected) > (0.999 if dtype == "int8" else 0.98)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize(
    ("attributes", "quantized"),
    [
        ({"num_heads": 4, "mask_filter_value": -1e9}, True),
        ({"num_heads": 4, "unidirectional": 1, "scale": 0.3}, True),
        ({"num_heads": 4, "qkv_hidden_sizes": [64, 64, 64]}, False),
    ],
)
def test_attention_on_packed_weights(attributes: dict[str, Any], quantized: bool, dtype: str) -> None:
    names = ["x", "weight", "bias", "mask", "", "scores"]
    node = helper.make_node("Attention", names, ["output"], domain="com.microsoft", **attributes)
    weights = {"weight": normal(64, 192) / 8, "bias": normal(192)}
    inputs = {"x": (TensorProto.FLOAT, ["n", "m", 64]), "mask": (TensorProto.INT32, ["n", "m"])}
    inputs["scores"] = (TensorProto.FLOAT, ["n", 4, "m", "m"])
    proto = graph_of([node], weights, inputs, ["n", "m", 64])
    given = {"x": normal(2, 9, 64), "mask": np.array([[1] * 9, [1] * 5 + [0] * 4], "int32")}
    given["scores"] = 3 * normal(2, 4, 9, 9)
    expected = run(proto, **given)
    precision.reduce_precision(proto, dtype)
    assert ("Attention" not in {node.op_type for node in proto.graph.node}) == quantized
    assert cosine(run(proto, **given), expected) > (0.999 if dtype == "int8" else 0.98)


def test_embeddings_that_are_one_node_come_apart() -> None:
    def node(*extra: str) -> onnx.NodeProto:
        names = ["ids", "types", "words", "positions", "kinds", "gamma", "beta", *extra]
        return helper.make_node("EmbedLayerNormalization", names, ["output", "mask"], domain="com.microsoft")

    weights = {"words": normal(300, 32), "positions": normal(20, 32), "kinds": normal(2, 32)}
    weights |= {"gamma": normal(32), "beta": normal(32)}
    inputs = {name: (TensorProto.INT32, ["n", "m"]) for name in ("ids", "types")}
    given = {"ids": np.array([[3, 4, 299]], "int32"), "types": np.array([[0, 1, 1]], "int32")}
    proto = graph_of([node()], weights, inputs, ["n", "m", 32])
    expected = run(proto, **given)
    precision.reduce_precision(proto, "int8")
    assert proto.ByteSize() < 0.6 * 4 * 300 * 32
    assert cosine(run(proto, **given), expected) > 0.9999
    # With positions of its own, as RoBERTa has.
    proto = graph_of([node("", "places")], weights, inputs | {"places": inputs["ids"]}, ["n", "m", 32])
    given["places"] = np.array([[2, 7, 1]], "int32")
    expected = run(proto, **given)
    precision.reduce_precision(proto, "int8")
    assert cosine(run(proto, **given), expected) > 0.9999


def test_products_stay_in_float32_where_all_in_int8_are_too_far(tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((64,))
    # What enters the second product is small but for two, of which it makes nothing: they take all 8 bits.
    spikes = np.array([300.0, 300.0, *[1.0] * 254], "float32")
    contract = keras.layers.Dense(64, use_bias=False, name="contract")
    model = keras.Model(x, contract(keras.layers.Dense(256)(x) * spikes))
    contract.kernel.assign(np.concatenate([np.zeros((2, 64)), normal(254, 64)]))
    path = tmp_path / "model.onnx"
    report = kzoo.export.to_onnx(model, path, dtype="int8")
    (graph,) = report.reduction.graphs.values()
    assert graph.spared == [contract.kernel.path]
    assert graph.reason.startswith("the output 'contract'")
    assert graph.differences["contract"].cosine > precision.BOUNDS["int8"].cosine
    assert stored(path) == {TensorProto.INT8: 64 * 256, TensorProto.FLOAT: 256 * 64 + 256 + 256 + 256}
    assert graph.bytes_after == path.stat().st_size
    assert "1 of its products stay in float32, beginning with 'contract/kernel'" in str(report)


def test_more_products_stay_in_float32_as_long_as_that_is_too_far() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "expand"], ["wide"]),
        helper.make_node("MatMul", ["wide", "contract"], ["narrow"]),
        helper.make_node("MatMul", ["narrow", "other"], ["output"]),
    ]
    weights = {"expand": normal(64, 256), "contract": normal(256, 64), "other": normal(64, 70)}
    proto = graph_of(nodes, weights, {"x": (TensorProto.FLOAT, ["n", 64])}, ["n", 70])
    ladder = quantization.spared_weights(proto)
    assert ladder == [["contract"], ["contract", "expand"]]
    precision.reduce_precision(proto, "int8", spared=ladder[1])
    assert [node.op_type for node in proto.graph.node].count("MatMul") == 2
