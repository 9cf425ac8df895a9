"""What an export says about itself, and what of it stays in the bundle."""

from __future__ import annotations

import json
import pathlib

import onnx
import pytest

import kzoo
from kzoo.errors import BundleError
from kzoo.export import ExportReport, read_report
from kzoo.runtime import hash_file
from kzoo.runtime.comparison import Difference
from kzoo.text import Tokenizer
from tests.models.tiny import shaken, tiny


@pytest.fixture(scope="module")
def exported(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportReport, pathlib.Path]:
    folder = tmp_path_factory.mktemp("bundles") / "story"
    return shaken(tiny("GPT2", tokenizer=bpe)).export(folder), folder


def test_the_bundle_keeps_the_report(exported: tuple[ExportReport, pathlib.Path]) -> None:
    report, folder = exported
    assert read_report(folder) == report
    manifest = kzoo.load(folder).manifest
    assert manifest.files["export.json"] == hash_file(folder / "export.json")
    assert str(folder) not in (folder / "export.json").read_text()


def test_it_counts_what_is_in_the_file(exported: tuple[ExportReport, pathlib.Path]) -> None:
    report, folder = exported
    graph = onnx.load(str(folder / "model.onnx")).graph
    assert report.graphs["model"].nodes == len(graph.node)
    assert report.graphs["model"].initializers == len(graph.initializer)
    assert report.files["model.onnx"] == (folder / "model.onnx").stat().st_size
    assert report.files.keys() == {"model.onnx", "golden.npz", "tokenizer.json"}
    assert report.size_bytes == sum(report.files.values())
    assert report.seconds == pytest.approx(sum(report.stages.values()))
    assert report.stages.keys() == {
        "converting",
        "fusing",
        "running model in Keras",
        "writing model.onnx",
        "verifying model.onnx",
    }
    assert min(report.stages.values()) > 0


def test_it_has_the_figures_of_every_output(exported: tuple[ExportReport, pathlib.Path]) -> None:
    report, folder = exported
    graph = report.graphs["model"]
    outputs = {spec.name for spec in kzoo.load(folder).manifest.graphs["model"].outputs}
    assert graph.differences.keys() == outputs
    assert report.largest_difference == max(figure.absolute for figure in graph.differences.values())
    assert 0 < report.largest_difference < 1e-4
    assert all(figure.cosine > 0.9999 for figure in graph.differences.values())
    assert graph.differences["log_probs"].agreement == 1
    assert graph.differences["present.0.key"].agreement is None
    # The cache empty, in use, and full.
    assert any("past 0," in case for case in graph.cases)
    assert any("past 5," in case for case in graph.cases)
    assert any("past 31, sequence 1," in case for case in graph.cases)
    assert graph.refused == []


def test_it_prints_as_tables(exported: tuple[ExportReport, pathlib.Path]) -> None:
    report, folder = exported
    lines = str(report).splitlines()
    cells = {line.split("  ")[0]: line.split()[-1] for line in lines if "  " in line}
    assert cells["MatMul"] == str(report.graphs["model"].operations["MatMul"])
    assert cells["all nodes"] == str(report.graphs["model"].nodes)
    assert cells["log_probs"] == "100.00%"
    assert "present.* (4)" in cells
    assert f"{folder}: golden.npz" in str(report)
    assert "tolerance 0.0001" in str(report)


def test_it_prints_what_was_fused_and_what_was_not(exported: tuple[ExportReport, pathlib.Path]) -> None:
    report, _ = exported
    graph = report.graphs["model"].__class__(
        operations={"Attention": 2, "MatMul": 1},
        nodes_before=40,
        fused={"Attention": 2},
        unfused=["attention in block 3: its mask [batch] is none"],
        initializers=1,
        parameters=1234,
        differences={"logits": Difference(1e-6, 1e-5, 0.999, None)},
        cases=["batch 1"],
        refused=["batch 1, sequence 5: too short"],
    )
    printed = str(ExportReport(pathlib.Path("x.onnx"), 18, 1e-4, {"x.onnx": 1}, {"model": graph}, {}))
    assert "Attention (fused)" in printed
    assert "MatMul (fused)" not in printed
    assert "all nodes before fusion      40" in printed
    assert "not fused: attention in block 3: its mask [batch] is none" in printed
    assert "not compared: batch 1, sequence 5: too short" in printed
    assert "1,234" in printed


def test_a_bundle_without_a_report_runs_and_says_that_it_has_none(
    exported: tuple[ExportReport, pathlib.Path],
) -> None:
    _, folder = exported
    content = (folder / "export.json").read_bytes()
    manifest = (folder / "manifest.json").read_text()
    try:
        (folder / "export.json").write_text('{"opset": 18}')
        with pytest.raises(BundleError, match=r"export\.json' is no report of an export: path"):
            read_report(folder)
        with pytest.raises(BundleError, match=r"export\.json has"):
            kzoo.load(folder)
        (folder / "export.json").unlink()
        parsed = json.loads(manifest)
        del parsed["files"]["export.json"]
        (folder / "manifest.json").write_text(json.dumps(parsed))
        assert kzoo.load(folder).verify() < 1e-4
        with pytest.raises(BundleError, match="cannot be read"):
            read_report(folder)
    finally:
        (folder / "export.json").write_bytes(content)
        (folder / "manifest.json").write_text(manifest)
