"""A graph that is wrong anywhere is caught, and the message says where."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

from kzoo.errors import ExportError, VerificationError
from kzoo.export.cases import Case, golden_cases, make_cases, token_limits
from kzoo.export.verification import verify_graph
from kzoo.models import InputSpec
from kzoo.models.graphs import Graph
from tests.bundles import float_tensor, int_input, make_graph
from tests.models.tiny import tiny

VOCAB, LONGEST = 5000, 32
TABLE = np.random.default_rng(0).standard_normal((VOCAB, 2)).astype("float32")
TOKENS = InputSpec(("batch", "sequence"), "int64")


def score(inputs: dict[str, Any]) -> dict[str, Any]:
    """Look each token's two scores up, and hide those of padding."""
    mask = keras.ops.expand_dims(keras.ops.cast(inputs["attention_mask"], "float32"), -1)
    return {"logits": keras.ops.take(keras.ops.convert_to_tensor(TABLE), inputs["input_ids"], axis=0) * mask}


TEXT = Graph(score, {"input_ids": TOKENS, "attention_mask": TOKENS}, max_length=LONGEST)
IMAGE = Graph(
    lambda inputs: {"scaled": 2 * inputs["pixel_values"]},
    {"pixel_values": InputSpec(("batch", 4, 4, 1), "float32")},
)


def text_graph(path: pathlib.Path, error: list[NodeProto]) -> pathlib.Path:
    """Write what `score` does, with `error`, of whatever shape fits, added."""
    constants = {
        "table": TABLE,
        "last": np.array([-1]),
        "first_row": np.array(0),
        "one": np.array(1),
        "first": np.array([0]),
        "three": np.array(3),
        "four": np.array(4),
        "end": np.array(LONGEST - 1),
        "largest": np.array(VOCAB - 1),
        "off_on": np.array([0, 0.25], "float32"),
        "quarter": np.array(0.25, "float32"),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["scores", "column"], ["right"]),
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        *error,
        helper.make_node("Add", ["right", "error"], ["logits"]),
    ]
    graph = make_graph(
        nodes,
        inputs=[int_input("input_ids", "sequence"), int_input("attention_mask", "sequence")],
        outputs=[float_tensor("logits", ["batch", "sequence", 2])],
        constants=constants,
    )
    onnx.save(graph, str(path))
    return path


NOTHING = [
    helper.make_node("Sub", ["mask", "mask"], ["none"]),
    helper.make_node("Unsqueeze", ["none", "last"], ["error"]),
]
# In rows whose first token is padding and whose last is none.
AT_LEFT_PADDING = [
    helper.make_node("Gather", ["mask", "first"], ["opening"], axis=1),
    helper.make_node("Gather", ["mask", "last"], ["closing"], axis=1),
    helper.make_node("Greater", ["closing", "opening"], ["is_left"]),
    helper.make_node("Cast", ["is_left"], ["left"], to=onnx.TensorProto.FLOAT),
    helper.make_node("Unsqueeze", ["left", "last"], ["error"]),
]
AT_BATCH_THREE = [
    helper.make_node("Gather", ["shape", "first_row"], ["rows"]),
    helper.make_node("Equal", ["rows", "three"], ["is_three"]),
    helper.make_node("Cast", ["is_three"], ["error"], to=onnx.TensorProto.FLOAT),
]


def at_place(place: str) -> list[NodeProto]:
    return [
        helper.make_node("Gather", ["shape", "last"], ["lengths"]),
        helper.make_node("Squeeze", ["lengths"], ["length"]),
        helper.make_node("Range", ["first_row", "length", "one"], ["places"]),
        helper.make_node("Equal", ["places", place], ["is_there"]),
        helper.make_node("Cast", ["is_there"], ["there"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["there", "quarter"], ["small"]),
        helper.make_node("Unsqueeze", ["small", "last"], ["error"]),
    ]


AT_LARGEST_TOKEN = [
    helper.make_node("Equal", ["input_ids", "largest"], ["is_largest"]),
    helper.make_node("Cast", ["is_largest"], ["largest_one"], to=onnx.TensorProto.FLOAT),
    helper.make_node("Unsqueeze", ["largest_one", "last"], ["error"]),
]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found, refused = make_cases(TEXT, [], {"input_ids": VOCAB})
    assert refused == []
    return found


def test_a_right_graph_agrees_and_each_pair_of_sizes_and_paddings_was_tried(
    cases: list[Case], tmp_path: pathlib.Path
) -> None:
    differences = verify_graph(text_graph(tmp_path / "model.onnx", NOTHING), cases, 1e-6)
    assert differences["logits"].absolute == 0
    assert differences["logits"].cosine == pytest.approx(1)
    assert differences["logits"].agreement == 1
    tried = set()
    for case in cases:
        mask = case.inputs["attention_mask"]
        for row in mask:
            hidden = (row[0] == 0, row[-1] == 0)
            kind = {(0, 0): "none", (0, 1): "right", (1, 0): "left", (1, 1): "full"}[hidden]
            tried |= {(mask.shape[0], kind), (mask.shape[1], kind), mask.shape}
    kinds = ("none", "right", "left", "full")
    assert tried >= {(1, 5), (1, 17), (3, 5), (3, 17), (2, LONGEST)}
    assert tried >= set(itertools.product((1, 3, 5, 17), kinds))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AT_LEFT_PADDING, r"'logits' .* at \(0, \d, \d\).*batch 1, sequence 5, padded on the left\)"),
        (AT_BATCH_THREE, r"'logits' .*\(case: batch 3, "),
        (at_place("four"), r"'logits' .* at \(0, 4, \d\).*2 of 10 values"),
        (at_place("end"), rf"'logits' .* at \(\d, {LONGEST - 1}, \d\).*extreme values"),
        (AT_LARGEST_TOKEN, r"'logits' .* at \(0, .*extreme values"),
    ],
)
def test_a_wrong_graph_is_caught_and_the_place_is_named(
    cases: list[Case], tmp_path: pathlib.Path, error: list[NodeProto], message: str
) -> None:
    with pytest.raises(VerificationError, match=message):
        verify_graph(text_graph(tmp_path / "model.onnx", error), cases, 1e-4)


def test_the_kind_of_row_is_named_where_a_batch_has_several(
    cases: list[Case], tmp_path: pathlib.Path
) -> None:
    mixed = [case for case in cases if len(set(case.paddings)) > 1]
    with pytest.raises(VerificationError, match=r"at \(1, \d+, \d\), in a row padded on the left"):
        verify_graph(text_graph(tmp_path / "model.onnx", AT_LEFT_PADDING), mixed, 1e-4)


def test_values_far_out_are_tried(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Mul", ["pixel_values", "two"], ["doubled"]),
        helper.make_node("Clip", ["doubled", "low", "high"], ["scaled"]),
    ]
    shape = ["batch", 4, 4, 1]
    bounds = {"two": 2, "low": -12, "high": 12}
    graph = make_graph(
        nodes,
        inputs=[float_tensor("pixel_values", shape)],
        outputs=[float_tensor("scaled", shape)],
        constants={name: np.array(value, "float32") for name, value in bounds.items()},
    )
    onnx.save(graph, str(tmp_path / "model.onnx"))
    cases, _ = make_cases(IMAGE, [], {})
    assert [case.name for case in cases] == ["batch 1", "batch 3", "batch 2, extreme values"]
    with pytest.raises(VerificationError, match=r"'scaled'.*extreme values"):
        verify_graph(tmp_path / "model.onnx", cases, 1e-4)


def identity_graph(path: pathlib.Path, dtype: int, shape: list[int | str]) -> pathlib.Path:
    node = helper.make_node("Identity", ["given"], ["taken"])
    values = [helper.make_tensor_value_info(name, dtype, shape) for name in ("given", "taken")]
    onnx.save(make_graph([node], [values[0]], [values[1]], {}), str(path))
    return path


def test_nan_is_any_answer_only_in_rows_of_nothing_but_padding(tmp_path: pathlib.Path) -> None:
    path = identity_graph(tmp_path / "model.onnx", onnx.TensorProto.FLOAT, ["batch", 2])
    given = np.zeros((2, 2), "float32")
    expected = given.copy()
    expected[1] = np.nan
    fine = Case("", {"given": given}, {"taken": expected}, ("none", "full"))
    assert verify_graph(path, [fine], 1e-4)["taken"].absolute == 0
    with pytest.raises(VerificationError, match=r"at \(1, 0\), .*: 0 against nan; 2 of 4 values"):
        verify_graph(path, [Case("", {"given": given}, {"taken": expected}, ("none", "left"))], 1e-4)
    with pytest.raises(VerificationError, match=r"at \(1, 0\), in a row not padded: nan against 0"):
        verify_graph(path, [Case("", {"given": expected}, {"taken": given}, ("full", "none"))], 1e-4)


def test_a_ranking_may_swap_what_is_equal_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path = identity_graph(tmp_path / "model.onnx", onnx.TensorProto.INT64, ["batch", 2])
    scores = np.array([[0.0, 1.0, 1.0 + 1e-7, -5.0]], "float32")

    def case(found: list[int]) -> Case:
        return Case("", {"given": np.array([found])}, {"scores": scores, "taken": np.array([[2, 1]])})

    graph = onnx.load(str(path))
    graph.graph.node.append(
        helper.make_node("Constant", [], ["scores"], value=onnx.numpy_helper.from_array(scores))
    )
    graph.graph.output.append(float_tensor("scores", [1, 4]))
    onnx.save(graph, str(path))
    verify_graph(path, [case([1, 2])], 1e-4, {"taken"})
    with pytest.raises(VerificationError, match="'taken'"):
        verify_graph(path, [case([2, 0])], 1e-4, {"taken"})
    with pytest.raises(VerificationError, match="'taken'"):
        verify_graph(path, [case([1, 2])], 1e-4)
    with pytest.raises(VerificationError, match="'taken'"):
        verify_graph(path, [case([2, 7])], 1e-4, {"taken"})
    (kept, _) = golden_cases([case([1, 2])], {"taken"})
    assert set(kept.expected) == {"scores"}


def refusing(refuses: Callable[[tuple[int, ...]], bool]) -> Graph:
    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        if refuses(tuple(inputs["input_ids"].shape)):
            raise ValueError("too short for the kernel\nand more")
        return score(inputs)

    return Graph(function, TEXT.inputs)


def test_what_the_model_itself_refuses_is_said_and_the_rest_compared() -> None:
    short = refusing(lambda shape: shape[1] < 10)
    cases, refused = make_cases(short, [], {"input_ids": VOCAB}, may_refuse=True)
    assert {case.inputs["input_ids"].shape[1] for case in cases} == {17}
    assert "batch 1, sequence 5: too short for the kernel" in refused
    with pytest.raises(ValueError, match="too short"):
        make_cases(short, [], {"input_ids": VOCAB})
    with pytest.raises(ExportError, match=r"too short for the kernel.*pass inputs="):
        make_cases(refusing(lambda shape: True), [], {"input_ids": VOCAB}, may_refuse=True)


def test_a_large_model_costs_few_runs_that_are_short() -> None:
    cases, _ = make_cases(TEXT, [keras.KerasTensor((40_000_000,), "float32")], {"input_ids": VOCAB})
    assert len(cases) <= 4
    assert sum(case.inputs["input_ids"].size for case in cases) < 150
    assert {kind for case in cases for kind in case.paddings} == {"none", "right", "left", "full"}


def test_token_limits_come_from_the_table_that_an_input_is_looked_up_in() -> None:
    words = keras.Input((None,), dtype="int32", name="words")
    types = keras.Input((None,), dtype="int32", name="types")
    both = keras.layers.Embedding(70, 4)(words) + keras.layers.Embedding(3, 4)(types)
    model = keras.Model([words, types], keras.layers.Dense(1)(both))
    assert token_limits(model, ["words", "types"]) == {"words": 70, "types": 3}
    bert = tiny("Bert")
    limits = token_limits(bert, bert.signature())
    assert (limits["input_ids"], limits["token_type_ids"]) == (300, 2)

    class Sum(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = keras.layers.Embedding(70, 4), keras.layers.Embedding(20, 4)

        def call(self, ids: Any) -> Any:
            return self.words(ids) + self.places(keras.ops.arange(keras.ops.shape(ids)[1]))

    assert token_limits(Sum(), ["ids"]) == {"ids": 20}
