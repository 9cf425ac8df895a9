"""An export that fails, or is killed, damages nothing that was there before."""

from __future__ import annotations

import pathlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import ExportError, VerificationError
from kzoo.export import cases, handover, weights
from kzoo.models import TransformerModel


@pytest.fixture(scope="module")
def model() -> TransformerModel:
    return kzoo.models.vit_micro_patch4_32(
        image_size=8,
        num_channels=1,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=16,
        num_classes=3,
    )


@pytest.fixture
def bundle(model: TransformerModel, tmp_path: pathlib.Path) -> pathlib.Path:
    model.export(tmp_path / "bundle")
    return tmp_path / "bundle"


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_graph_that_disagrees_is_an_error_and_the_old_bundle_stays(
    model: TransformerModel, bundle: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(bundle.parent)
    honest = cases.run_keras

    def wrong(*arguments: object) -> dict[str, np.ndarray]:
        return {name: array + np.float32(0.01) for name, array in honest(*arguments).items()}

    monkeypatch.setattr(cases, "run_keras", wrong)
    with pytest.raises(VerificationError, match=r"'logits' differs from Keras at \("):
        model.export(bundle)
    assert contents(bundle.parent) == before


def test_a_nan_where_keras_has_a_number_is_an_error(
    model: TransformerModel, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cases,
        "run_keras",
        lambda function, inputs: {"logits": np.full((len(inputs["pixel_values"]), 3), np.nan)},
    )
    with pytest.raises(VerificationError):
        model.export(tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def quota() -> Iterator[None]:
    """No file may grow beyond 10,000 bytes: writing fails in the middle of one, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("beside", [False, True], ids=["one file", "weights beside"])
def test_a_disk_that_fills_up_leaves_what_was_there(
    model: TransformerModel,
    bundle: pathlib.Path,
    beside: bool,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if beside:
        monkeypatch.setattr(weights, "EXTERNAL_DATA_BYTES", 1000)
    lone = bundle.parent / "model.onnx"
    model.export(lone)
    before = contents(bundle.parent)
    request.getfixturevalue("quota")
    for target in (bundle, lone, bundle.parent / "bundles" / "new"):
        with pytest.raises(ExportError, match=r"Writing .* failed: File too large.*untouched"):
            model.export(target)
    with pytest.raises(ExportError, match=r"Writing .* failed: File too large.*untouched"):
        kzoo.export.to_triton(model, bundle.parent / "repository")
    assert contents(bundle.parent) == before


def test_a_bundle_is_replaced_whole(model: TransformerModel, bundle: pathlib.Path) -> None:
    (bundle / "stray.txt").write_text("from before")
    model.export(bundle, name="second")
    assert not (bundle / "stray.txt").exists()
    assert kzoo.load(bundle).name == "second"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_what_is_not_a_bundle_is_never_replaced(model: TransformerModel, tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("two years of work")
    with pytest.raises(ExportError, match="not a bundle"):
        model.export(tmp_path / "thesis")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ExportError, match="is a file"):
        model.export(tmp_path / "notes")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "two years of work"
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_path_that_cannot_be_written_is_refused(model: TransformerModel, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="Cannot write to"):
        model.export(tmp_path / "file" / "bundle")
    with pytest.raises(ExportError, match=r"does not end in \.onnx"):
        kzoo.export.to_onnx(model, tmp_path / "model.bin")


def test_text_without_a_tokenizer_makes_no_bundle(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ExportError, match="needs the model's tokenizer"):
        kzoo.models.bert_tiny(vocab_size=50).export(tmp_path / "bundle")
    assert not any(tmp_path.iterdir())


def test_weights_too_large_for_one_file_go_beside_it(
    model: TransformerModel, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "EXTERNAL_DATA_BYTES", 1000)
    model.export(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.onnx.data").stat().st_size > 1000
    pipeline = kzoo.load(tmp_path / "bundle")
    assert pipeline.verify() < 1e-4
    assert "model.onnx.data" in pipeline.manifest.files
    model.export(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("model.export({target!r})", "bundle"),
        ("kzoo.export.to_onnx(model, {target!r})", "model.onnx"),
        ("kzoo.export.to_triton(model, {target!r}, name='vit')", "repository"),
    ],
    ids=["bundle", "lone", "triton"],
)
def test_a_killed_export_leaves_nothing_that_the_next_one_does_not_clear(
    model: TransformerModel, tmp_path: pathlib.Path, call: str, name: str
) -> None:
    target = str(tmp_path / name)
    exec(call.format(target=target), {"model": model, "kzoo": kzoo})
    before = contents(tmp_path)
    # Weights beside the graph, and killed once they are written.
    script = f"""
import time, kzoo
from kzoo.export import running, weights
weights.EXTERNAL_DATA_BYTES = 1000
running.verify_graph = lambda *arguments: print("verifying", flush=True) or time.sleep(60)
model = kzoo.models.vit_micro_patch4_32(image_size=8, num_layers=1)
{call.format(target=target).replace("name='vit'", "name='vit', replace=True")}
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "verifying\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = contents(tmp_path)
    assert left.keys() > before.keys()
    assert {file: left[file] for file in before} == before
    time.sleep(0.1)
    exec(
        call.format(target=target).replace("name='vit'", "name='vit', version=2"),
        {"model": model, "kzoo": kzoo},
    )
    after = contents(tmp_path)
    assert after.keys() - before.keys() <= {"repository/vit/2/model.onnx"}
    assert not [path.name for path in tmp_path.rglob(".*")]


def test_what_fusion_gets_wrong_is_undone_and_said(tmp_path, monkeypatch):
    from kzoo.export import fusion

    def wrong(graph, node):
        if node.op_type in ("Gelu", "BiasGelu"):
            node.op_type, node.domain = "Relu", ""
            del node.input[1:]

    monkeypatch.setattr(fusion, "_RULES", (*fusion._RULES, wrong))
    model = keras.Sequential(
        [keras.Input((None, 4)), keras.layers.Dense(2, activation="gelu", name="scores")]
    )
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert "nothing is fused, or else: The exported graph's output 'scores' differs from Keras" in str(report)
    assert report.largest_difference < 1e-4

    monkeypatch.setattr(fusion, "_NEEDED", (*fusion._NEEDED, wrong))
    with pytest.raises(VerificationError, match="output 'scores' differs from Keras"):
        kzoo.export.to_onnx(model, tmp_path / "wrong.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize(
    ("layer", "shape", "operation"),
    [
        (keras.layers.Conv3D(4, 2, groups=2, name="grouped"), (6, 6, 6, 2), "Conv"),
        (
            keras.layers.Conv2DTranspose(4, 3, strides=2, output_padding=1, name="wider"),
            (12, 12, 3),
            "ConvTranspose.*",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_the_runtime_refuses_is_named(
    layer: keras.layers.Layer, shape: tuple[int, ...], operation: str, tmp_path: pathlib.Path
) -> None:
    x = keras.Input(shape)
    model = keras.Model(x, keras.layers.Flatten()(layer(keras.layers.Rescaling(2.0)(x))))
    kind = type(layer).__name__
    with pytest.raises(
        ExportError, match=rf"^The layer '{layer.name}' \({kind}\) became a node {operation}, "
    ):
        kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def test_what_a_child_process_is_told_lies_where_the_next_export_clears_up(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[pathlib.Path] = []

    def killed(directory: pathlib.Path) -> None:
        told.extend(directory.iterdir())
        raise ExportError("killed")

    monkeypatch.setattr(handover, "_run_child", killed)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_bfloat16")])
    with pytest.raises(ExportError, match="killed"):
        kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert [file.parent.parent.parent for file in told] == [tmp_path]
    assert told[0].parent.parent.name.startswith(".model.onnx.partial-")
    assert not any(tmp_path.iterdir())
