"""The command `kzoo`, as a user runs it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import kzoo
from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return bundles.write_text_classifier(tmp_path_factory.mktemp("bundles") / "topic")


@pytest.fixture(scope="module")
def shade(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return bundles.write_image_classifier(tmp_path_factory.mktemp("bundles") / "shade")


def test_list_matches_a_pattern_and_speaks_json() -> None:
    rows = json.loads(kzoo_command("list", "vit*", "--json").stdout)
    assert [row["name"] for row in rows] == kzoo.models.list_models("vit*")
    tiny = next(row for row in rows if row["name"] == "vit_tiny_patch16_224")
    assert (tiny["parameters"], tiny["input"], tiny["license"]) == (5_524_416, "224 x 224 x 3", "Apache-2.0")
    assert "image_classification" in tiny["tasks"]
    table = kzoo_command("list", "gpt2_xl").stdout
    assert "1,557,611,200" in table
    assert "MIT" in table
    assert_mistake(kzoo_command("list", "wit*"), "No model matches 'wit*'")


def test_show_counts_parameters_and_flops() -> None:
    summary = json.loads(kzoo_command("show", "vit_tiny_patch16_224", "--json").stdout)
    assert summary["parameters"] == 5_717_416
    assert summary["inputs"] == {"pixel_values": ["batch", 224, 224, 3]}
    assert summary["outputs"] == {"logits": ["batch", 1000]}
    # Touvron et al., 2021, table 1 has 1.3 G multiply-adds for this model.
    assert summary["flops"] / 2 == pytest.approx(1.26e9, rel=0.02)


def test_show_draws_the_blocks() -> None:
    picture = kzoo_command("show", "llama_3_2_1b").stdout
    order = [
        "input_ids",
        "128,256 x 2,048",
        "+- 16 x block",
        "attention_norm",
        "32 heads of 64, 8 of keys",
        "final_norm",
        "token_embedding backwards",
        "logits (",
    ]
    places = [picture.index(part) for part in order]
    assert places == sorted(places)
    assert "1,235,814,400 parameters" in picture
    boxes = [line for line in picture.splitlines() if line[:1] in ("+", "|")]
    assert {len(line) for line in boxes} == {80}
    assert_mistake(kzoo_command("show", "bert_tiny", "--task", "seq2seq"), "Bert cannot carry it")


def test_an_unknown_model_is_a_mistake_that_names_the_nearest() -> None:
    assert_mistake(kzoo_command("show", "bert_bsae"), "bert_base")


def test_a_backend_that_is_not_there_is_a_mistake_without_a_traceback() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kzoo", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "caffe"},
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "caffe" in result.stderr
    assert "pip install" in result.stderr
    assert "Traceback" not in result.stderr


def test_export_attaches_tokenizer_and_labels(tmp_path: pathlib.Path) -> None:
    model = kzoo.models.bert_tiny(vocab_size=100, num_layers=1)
    model.save(tmp_path / "model.keras")
    tokenizer = kzoo.text.Tokenizer.train(["good bad film"], vocab_size=60)
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "labels.txt").write_text("negative\npositive\n")
    result = kzoo_command(
        "export",
        tmp_path / "model.keras",
        tmp_path / "sentiment",
        *("--tokenizer", tmp_path / "tokenizer.json", "--labels", tmp_path / "labels.txt", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["largest_difference"] < 1e-4
    pipeline = kzoo.load(tmp_path / "sentiment")
    assert pipeline.manifest.labels == ["negative", "positive"]
    assert_mistake(kzoo_command("export", tmp_path / "model.keras", tmp_path / "other"), "tokenizer")
    assert not (tmp_path / "other").exists()
    assert_mistake(
        kzoo_command("export", tmp_path / "model.keras", tmp_path / "x.onnx", "--labels", "a,b,c"), "3 labels"
    )


def test_export_in_another_precision(tmp_path: pathlib.Path) -> None:
    kzoo.models.bert_tiny(vocab_size=100, num_layers=1).save(tmp_path / "model.keras")
    exported = ("export", tmp_path / "model.keras", tmp_path / "model.onnx", "--json", "--dtype")
    result = kzoo_command(*exported, "int8")
    assert result.exit_code == 0, result.stderr
    (graph,) = json.loads(result.stdout)["reduction"]["graphs"].values()
    assert graph["bytes_after"] == (tmp_path / "model.onnx").stat().st_size < graph["bytes_before"]
    assert_mistake(kzoo_command(*exported, "int9"), "Did you mean 'int8'")


def test_export_of_a_checkpoint(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier_of_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    tokenizer = kzoo.text.Tokenizer.train(["good bad film"], vocab_size=60)
    model = kzoo.models.bert_tiny(
        labels=["bad", "good"], tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, num_layers=1
    )
    model.save_pretrained(package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    for source in (package / "model", "package:carrier_of_weights"):
        result = kzoo_command("export", source, tmp_path / "bundle", "--json")
        assert result.exit_code == 0, result.stderr
        assert kzoo.load(tmp_path / "bundle").manifest.labels == ["bad", "good"]
    assert_mistake(kzoo_command("export", "package:carrier", tmp_path / "x"), "no such package")
    assert_mistake(kzoo_command("export", tmp_path / "nowhere", tmp_path / "x"), "There is no folder")
    model.save(tmp_path / "model.keras")
    assert_mistake(
        kzoo_command("export", tmp_path / "model.keras", tmp_path / "x", "--task", "mlm"), "knows its task"
    )


def test_export_of_a_file_that_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04 cut short")
    assert_mistake(kzoo_command("export", tmp_path / "model.keras", tmp_path / "x"), "model.keras")
    assert_mistake(kzoo_command("export", tmp_path / "none.keras", tmp_path / "x"), "none.keras")


def test_predict_texts_and_images(topic: pathlib.Path, shade: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = kzoo_command("predict", topic, "shares fell", "a late goal", "--json")
    assert [row["label"] for row in json.loads(result.stdout)] == ["Business", "Sports"]
    (tmp_path / "texts").write_text("the market\n\nthe team\n")
    result = kzoo_command("predict", topic, "--file", tmp_path / "texts")
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()] == [
        ["the market", "Business"],
        ["the team", "Sports"],
    ]
    Image.fromarray(np.full((8, 8), 250, "uint8")).save(tmp_path / "light.png")
    result = kzoo_command("predict", shade, tmp_path / "light.png", "--top-k", 2, "--json")
    assert [row["label"] for row in json.loads(result.stdout)[0]] == ["bright", "dark"]
    assert_mistake(kzoo_command("predict", shade, tmp_path / "none.png"), "none.png")
    assert_mistake(kzoo_command("predict", topic), "nothing to predict")


def test_verify_finds_a_changed_byte(tmp_path: pathlib.Path) -> None:
    bundle = tmp_path / "digits"
    kzoo.models.vit_micro_patch4_32(image_size=8, num_layers=1, num_classes=10).export(bundle)
    assert json.loads(kzoo_command("verify", bundle, "--json").stdout)["largest_difference"] < 1e-4
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    assert_mistake(kzoo_command("verify", bundle), "model.onnx")
