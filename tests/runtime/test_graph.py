"""What is in an ONNX file, read without the onnx package, and where its nodes run."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kzoo.errors import BundleError
from kzoo.runtime import Session
from kzoo.runtime.graph import graph_files, inspect, read_contents
from kzoo.runtime.metadata import encode_metadata
from tests import bundles


@pytest.fixture
def branching(tmp_path):
    """A graph with a branch, whose large weight lies in a file of its own."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [300, 4])
    branches = {
        "then_branch": helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "then",
            [],
            [value],
            [onnx.numpy_helper.from_array(np.zeros(7, "float32"), "unused")],
        ),
        "else_branch": helper.make_graph(
            [helper.make_node("Neg", ["x"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
            "else",
            [],
            [value],
        ),
    }
    graph = bundles.make_graph(
        [
            helper.make_node("Add", ["weight", "given"], ["x"], name="addition"),
            helper.make_node("If", ["choice"], ["y"], name="choosing", **branches),
        ],
        [
            helper.make_tensor_value_info("given", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
        ],
        [value],
        {"weight": np.ones((300, 4), "float32"), "scalar": np.array(1.0)},
    )
    path = tmp_path / "model.onnx"
    onnx.save_model(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return path


def test_contents_are_those_that_onnx_reads(branching):
    contents = read_contents(branching)
    assert contents.operations == {"Relu": 2, "Add": 1, "If": 1, "Neg": 1}
    assert contents.nodes == 5
    assert (contents.initializers, contents.parameters) == (3, 300 * 4 + 1 + 7)
    assert contents.opset == bundles.OPSET
    assert contents.files == {path.name: path.stat().st_size for path in branching.parent.iterdir()}
    assert contents.files["weights.bin"] >= 4 * 300 * 4


def test_contents_of_a_bundles_graphs(tmp_path):
    files = graph_files(bundles.write_translator(tmp_path / "translate"))
    assert set(files) == {"encoder", "decoder"}
    for path in files.values():
        graph = onnx.load(str(path)).graph
        contents = read_contents(path)
        assert contents.operations == Counter(node.op_type for node in graph.node)
        assert contents.parameters == sum(onnx.numpy_helper.to_array(w).size for w in graph.initializer)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 40, b"PK\x03\x04 a zip file", b"\x08\x09", b"\x3a\xff\xff\xff\x7f"]
)
def test_what_is_no_graph_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx' is no ONNX file"):
        inspect(tmp_path / "model.onnx")


def test_a_graph_cut_short_anywhere_is_refused_or_counted_in_part(tmp_path, branching):
    whole = branching.read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        with pytest.raises(BundleError):
            inspect(tmp_path / "cut.onnx", "cpu")


def test_nodes_on_the_cpu_are_no_news_there(branching):
    found = inspect(branching, "cpu")
    assert found.device == "cpu"
    assert {node.provider for node in found.placed} == {"CPU"}
    assert {node.name for node in found.placed} >= {"addition", "choosing"}
    assert found.left_on_cpu == []


def test_nodes_left_on_the_cpu_by_a_gpu_are_named(branching, monkeypatch):
    found = [("CUDAExecutionProvider", "Add", "addition"), ("CPUExecutionProvider", "If", "choosing")]
    opened = []

    class OnGpu(Session):
        def __init__(self, session):
            super().__init__(session)
            self.device = "cuda"
            opened.append(session)

        def placements(self):
            return found

    monkeypatch.setattr("kzoo.runtime.session.Session", OnGpu)
    result = inspect(branching, "cpu")
    assert opened
    assert [str(node) for node in result.left_on_cpu] == ["If choosing"]
    lines = result.draw("model").splitlines()
    assert lines[0].split() == ["model", "in", "the", "file", "run", "by", "CUDA", "run", "by", "CPU"]
    assert lines[-2:] == ["on the CPU although the graph runs on the GPU:", "  If choosing"]
    assert result.as_dict()["left_on_cpu"] == [{"provider": "CPU", "operation": "If", "name": "choosing"}]


def test_what_a_graph_says_of_itself_is_shown_briefly(branching):
    proto = onnx.load(str(branching), load_external_data=False)
    labels = ["World", "Sports\x1b[2J", "Business", "Science", "Weather", "Traffic"]
    text = {"tokenizer": "tokenizer.json", "max_length": 512, "truncate": None}
    deep = "[" * 300 + "]" * 300
    helper.set_model_props(
        proto,
        {**encode_metadata({"task": "classification", "labels": labels, "text": text}), "kzoo.image": deep},
    )
    branching.write_bytes(proto.SerializeToString())
    found = inspect(branching, "cpu")
    assert found.contents.facts == {"task": "classification", "labels": labels, "text": text}
    assert json.loads(json.dumps(found.as_dict()))["facts"]["labels"] == labels
    lines = found.draw("model").splitlines()
    assert "task: classification" in lines
    assert "labels: World, Sports [2J, Business, Science, Weather, and 1 more" in lines
    assert "text: tokenizer tokenizer.json, max_length 512" in lines
