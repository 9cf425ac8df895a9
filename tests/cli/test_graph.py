"""`kzoo graph` and the figures of `kzoo verify`, as a user runs them; neither needs more than the base install."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import kzoo
from kzoo.cli import app
from kzoo.runtime import hash_file
from tests import bundles


def kzoo_command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="kzoo")


@pytest.fixture(scope="module")
def shade(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A bundle with golden outputs."""
    folder = bundles.write_image_classifier(tmp_path_factory.mktemp("bundles") / "shade")
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    mean = images.mean(axis=(1, 2))
    np.savez(
        folder / "golden.npz",
        **{
            "some/model/input/pixel_values": images,
            "some/model/output/logits": mean * np.array([[-4, 4]], "float32"),
        },
    )
    record(folder)
    return folder


def record(folder: pathlib.Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = hash_file(folder / "golden.npz").model_dump()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_graph_counts_and_places(shade: pathlib.Path) -> None:
    (contents,) = json.loads(kzoo_command("graph", shade, "--device", "cpu", "--json").stdout).values()
    assert contents["operations"] == {"ReduceMean": 1, "MatMul": 1}
    assert (contents["nodes"], contents["parameters"], contents["opset"]) == (2, 4, bundles.OPSET)
    assert contents["files"] == {"model.onnx": (shade / "model.onnx").stat().st_size}
    assert {node["operation"]: node["provider"] for node in contents["placed"]} == {
        "ReduceMean": "CPU",
        "MatMul": "CPU",
    }
    assert contents["left_on_cpu"] == []


def test_graph_draws_a_table_of_a_bundle_or_a_file(shade: pathlib.Path) -> None:
    of_bundle = kzoo_command("graph", shade, "--device", "cpu").stdout
    rows = [line.split() for line in of_bundle.splitlines()]
    assert ["MatMul", "1", "1"] in rows
    assert ["all", "nodes", "2", "2"] in rows
    assert "4 parameters in 2 tensors" in of_bundle
    assert of_bundle.isascii()
    assert kzoo_command("graph", shade / "model.onnx", "--device", "cpu").stdout == of_bundle


def test_graph_of_what_is_none_is_a_mistake(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.onnx").write_text("not a graph")
    for path, word in (
        (tmp_path / "model.onnx", "no ONNX file"),
        (tmp_path / "nix", "There is no bundle folder"),
    ):
        result = kzoo_command("graph", path)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert word in " ".join(result.stderr.split())


def test_verify_prints_the_figures_of_each_output(shade: pathlib.Path) -> None:
    rows = [line.split() for line in kzoo_command("verify", shade).stdout.splitlines()]
    assert rows[0] == ["output", "absolute", "relative", "cosine", "same", "arg-max"]
    assert (rows[2][0], rows[2][3:]) == ("logits", ["1.00000000", "100.00%"])
    answer = json.loads(kzoo_command("verify", shade, "--json").stdout)
    assert answer["outputs"]["model"]["logits"]["absolute"] == answer["largest_difference"] < 1e-5
    assert answer["outputs"]["model"]["logits"]["agreement"] == 1


def test_verify_names_the_output_and_the_place(shade: pathlib.Path) -> None:
    before = (shade / "golden.npz").read_bytes()
    with np.load(shade / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["some/model/output/logits"][2, 1] += 0.25
    np.savez(shade / "golden.npz", **arrays)
    record(shade)
    try:
        result = kzoo_command("verify", shade)
    finally:
        (shade / "golden.npz").write_bytes(before)
        record(shade)
    assert result.exit_code == 1
    message = " ".join(result.stderr.split())
    assert "case 'some', output 'logits' of graph 'model' differs by 0.25" in message
    assert "at (2, 1)" in message
    assert "1 of 6 values" in message


def test_neither_needs_keras_or_onnx(shade: pathlib.Path) -> None:
    code = f"""
import sys
for name in ("keras", "tensorflow", "torch", "jax", "onnx", "tf2onnx"):
    sys.modules[name] = None
from typer.testing import CliRunner
from kzoo.cli import app
for command in ("graph", "verify"):
    result = CliRunner().invoke(app, [command, {str(shade)!r}, "--device", "cpu"])
    assert result.exit_code == 0, (result.output, result.exception)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert kzoo.load(shade, device="cpu").verify() < 1e-5
