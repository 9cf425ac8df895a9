"""`kzoo compress`: from a run to a table of its smaller forms, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import kzoo
from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require
from tests.recipes.learning import ENDS, moods, write_table

RECIPE = """
name = "mood"
[data]
train = "mood.csv"
test_share = 0.3
text = "sentence"
label = "mood"
[text]
vocab_size = 120
[model]
name = "bert_tiny"
hidden_dim = 64
num_layers = 1
num_heads = 2
intermediate_dim = 128
dropout = 0.0
max_positions = 16
[training]
epochs = 2
batch_size = 16
learning_rate = 5e-3
[export]
dtype = "int8"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf folder with a recipe and its data."""
    folder = tmp_path_factory.mktemp("shelf")
    write_table(folder / "mood.csv", ("sentence", "mood"), moods())
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(folder / "runs"))
    monkeypatch.delenv("KZOO_DATA", raising=False)
    return folder / "runs"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the same labels, from elsewhere, that knows half of the words."""
    return bundles.write_text_classifier(
        tmp_path_factory.mktemp("elsewhere") / "words",
        "words",
        words_of={mood: words[:2] for mood, words in ENDS.items()},
    )


@pytest.mark.slow
def test_a_published_bundle_is_compared_with_smaller_ones(folder, runs, other):
    trained = kzoo.recipes.run(folder / "recipe.toml")
    shutil.copytree(trained.bundle, folder / "bundle")
    forms = ("--dtype", "float32", "--dtype", "int8", "--sparsity", 0.9, "--fewer-units", 0.5)
    result = kzoo_command("compress", folder / "bundle", *forms, "--beside", other, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["float32", "int8", "int8, 50% fewer units", "int8, 90% pruned", "words"]
    assert rows["int8"]["score"] == pytest.approx(trained.scores["accuracy"])
    assert rows["int8"]["size"] < rows["float32"]["size"]
    assert rows["int8, 50% fewer units"]["size"] < rows["int8"]["size"]
    assert rows["int8, 90% pruned"]["compressed"] < rows["int8"]["compressed"]
    assert all(row["milliseconds"] > 0 and row["compressed"] <= row["size"] for row in rows.values())
    assert found["measured_on"] == f"{round(0.3 * len(moods()))} test examples"
    assert "float32" not in found["fronts"]["size"] or rows["float32"]["score"] > rows["int8"]["score"]

    # What is kept is ready to serve, and knows its scores.
    kept = kzoo.load(rows["int8"]["bundle"])
    assert kept.manifest.metrics["accuracy"] == rows["int8"]["score"]
    assert {answer["label"] for answer in kept([text for text, _ in moods()])} <= set(ENDS)
    written = runs / "mood-compression"
    assert json.loads((written / "compression.json").read_text())["rows"] == found["rows"]
    assert (written / "compression.png").read_bytes().startswith(b"\x89PNG")
    report = (written / "compression.md").read_text(encoding="utf-8")
    assert report.count("\n| ") == 7
    assert "--sparsity 0.9 --fewer-units 0.5" in report

    changed = kzoo_command(
        "compress", trained.directory, "--recipe", folder / "recipe.toml", "--set", "training.seed=7"
    )
    assert_mistake_said(changed, "was made by another recipe")
    shutil.rmtree(trained.directory)
    assert_mistake_said(kzoo_command("compress", folder / "bundle"), "came from no run in", "--recipe")


def assert_mistake_said(result, *words):
    assert_mistake(result)
    said = " ".join(result.stderr.split())
    for word in words:
        assert word in said


def test_mistakes(folder, other):
    recipe = ("--recipe", folder / "recipe.toml")
    assert_mistake_said(kzoo_command("compress", other), "Say which recipe")
    assert_mistake_said(kzoo_command("compress", other, *recipe), "came from no run in")
    assert_mistake_said(kzoo_command("compress", other, *recipe, "--dtype", "int9"), "Did you mean 'int8'")
    assert_mistake_said(kzoo_command("compress", folder / "no.keras", *recipe), "no.keras")
    assert_mistake_said(kzoo_command("compress", folder / "nothing", *recipe), "nothing")
    pixels = kzoo.models.vit_micro_patch4_32(num_classes=2, hidden_dim=16, num_layers=1, num_heads=2)
    pixels.save(folder / "pixels.keras")
    assert_mistake_said(kzoo_command("compress", folder / "pixels.keras", *recipe), "'image_classification'")
