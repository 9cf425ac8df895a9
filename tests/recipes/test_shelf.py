"""Every bundle on the shelf scores what its card says, computed from its files and the data alone."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from kzoo.recipes import load_recipe
from kzoo.recipes.card import form_score
from kzoo.runtime import Bundle
from tests import bundles
from tests.cli.commands import kzoo_command
from tests.optional import require

SHELF = Path(__file__).parents[2] / "models"
# Kernels for integers differ from processor to processor, and an example or two may tip over.
NEAR = {"bleu": 0.3, "chrf": 0.3, "ter": 0.3, "bleu_lowercased_tokenized": 0.3, "perplexity": 0.5}
# A larger graph takes longer over a test set than a quick test may.
QUICK_BYTES = 2_000_000


def shelved() -> list:
    """Return the folders that hold a bundle, the slow ones marked."""
    folders = sorted(manifest.parents[1] for manifest in SHELF.glob("*/bundle/manifest.json"))
    if not folders:
        return [pytest.param(None, marks=pytest.mark.skip(reason="there is no bundle on the shelf, models/"))]
    return [
        pytest.param(folder, id=folder.name, marks=[] if is_quick(folder) else pytest.mark.slow)
        for folder in folders
    ]


def is_quick(folder: Path) -> bool:
    graphs = (folder / "bundle").glob("*.onnx*")
    return (
        sum(graph.stat().st_size for graph in graphs) < QUICK_BYTES
        and not (folder / "bundle/decoder.onnx").exists()
    )


def check(folder: Path) -> None:
    """Compare what a shelf folder says of its bundle with what the bundle does."""
    recipe, bundle = load_recipe(folder / "recipe.toml"), folder / "bundle"
    beams = ("--num-beams", recipe.evaluation.num_beams) if recipe.evaluation.num_beams else ()
    options = ("--recipe", folder / "recipe.toml", "--batch-size", recipe.training.batch_size, *beams)
    result = kzoo_command("evaluate", bundle, *options, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    found, said = json.loads(result.stdout)["scores"], Bundle.open(bundle).manifest.metrics
    assert recipe.metric in found
    for name, score in found.items():
        assert score["value"] == pytest.approx(said[name], abs=NEAR.get(name, 0.003)), name
    card = (folder / "README.md").read_text(encoding="utf-8")
    shown = form_score(recipe.metric, said[recipe.metric])
    assert re.search(
        rf"^\| {re.escape(recipe.metric)}.* {re.escape(shown)} ", card.replace("\\", ""), re.M
    ), shown
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", card):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG"), picture


@pytest.mark.parametrize("folder", shelved())
def test_a_bundle_on_the_shelf_scores_what_its_card_says(folder):
    for package in ("sklearn", "sacrebleu", "sacremoses"):
        require(package)
    if not os.environ.get("KZOO_DATA"):
        pytest.skip("the data is not here: KZOO_DATA names no folder")
    check(folder)


@pytest.fixture
def folder(tmp_path):
    """A shelf folder as `--publish` would leave it, of a bundle that gets nine in ten right."""
    require("sklearn")
    bundle = bundles.write_text_classifier(tmp_path / "topic" / "bundle")
    rows = [
        f"the {word},{label}" for label, words in bundles.TOPICS.items() for word in words for _ in range(9)
    ]
    rows += [f"the {word},Sports" for word in bundles.TOPICS["Business"]]
    rows += [f"the {word},Business" for word in bundles.TOPICS["Sports"]]
    (tmp_path / "topic/test.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "topic/recipe.toml").write_text(
        'name = "topic"\n[data]\ntrain = "test.csv"\ntest = "test.csv"\ntext = "text"\nlabel = "label"\n'
        '[model]\nname = "bert_tiny"\n[training]\nepochs = 1\n[evaluation]\nmetric = "f1:Sports"\n'
    )
    scores = {"accuracy": 0.9, "macro_f1": 0.9, "micro_f1": 0.9, "f1:Sports": 0.9, "roc_auc": 0.9}
    say(bundle, {**scores, "average_precision": 0.86, "calibration_error": 0.0526})
    (tmp_path / "topic/README.md").write_text("| f1\\:Sports | 0.9000 ± 0.0100 |\n")
    return tmp_path / "topic"


def say(bundle: Path, metrics: dict[str, float]) -> None:
    manifest = Bundle.open(bundle).manifest
    manifest.metrics = metrics
    (bundle / "manifest.json").write_text(manifest.model_dump_json())


def test_a_card_that_is_right_passes(folder):
    check(folder)


@pytest.mark.parametrize("name", ["accuracy", "f1:Sports"])
def test_a_manifest_that_says_too_much_is_found_out(folder, name):
    metrics = Bundle.open(folder / "bundle").manifest.metrics
    say(folder / "bundle", {**metrics, name: 0.95})
    with pytest.raises(AssertionError):
        check(folder)


def test_a_card_that_says_too_much_is_found_out(folder):
    (folder / "README.md").write_text("| f1:Sports | 0.9500 ± 0.0100 |\n")
    with pytest.raises(AssertionError, match=r"0\.9000"):
        check(folder)


def test_a_card_without_its_pictures_is_found_out(folder):
    with (folder / "README.md").open("a") as card:
        card.write("![Calibration](calibration.png)\n")
    with pytest.raises(FileNotFoundError):
        check(folder)


def test_the_shelf_is_listed_and_as_small_as_it_says():
    listed = (SHELF / "README.md").read_text(encoding="utf-8")
    sizes = {
        bundle.parent.name: sum(file.stat().st_size for file in bundle.iterdir())
        for bundle in SHELF.glob("*/bundle")
    }
    assert max(sizes.values()) <= 12e6, sizes
    assert sum(sizes.values()) <= 60e6, sizes
    for name in sizes:
        scores = Bundle.open(SHELF / name / "bundle").manifest.metrics
        row = re.search(rf"^\| \[{name}\]\({name}/README\.md\) .*? ([\d.]+)%? [^|]*\|$", listed, re.M)
        assert row, f"{name} has no row in models/README.md"
        leading = scores[load_recipe(SHELF / name / "recipe.toml").metric]
        decimals = len(row[1].partition(".")[2])
        assert float(row[1]) == round(leading * (100 if f"{row[1]}%" in row[0] else 1), decimals), name
