"""Whole runs, small: from a recipe and its data to a bundle that answers."""

import csv
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo import KzooError
from kzoo.text import Tokenizer
from tests.optional import require
from tests.recipes.learning import moods, write_table

TEXT = """
name = "mood"
description = "Tells whether a sentence is glad."
[data]
train = "mood.csv"
validation_share = 0.1
test_share = 0.2
text = "sentence"
label = "mood"
licence = "none needed"
[text]
vocab_size = 120
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
dropout = 0.0
max_positions = 32
[training]
epochs = 6
batch_size = 16
learning_rate = 5e-3
"""
IMAGES = """
name = "halves"
[data]
train = "halves.npz"
[vision.augment]
shift = 0.1
[model]
name = "vit_micro_patch4_32"
image_size = 8
num_channels = 1
hidden_dim = 16
num_layers = 1
num_heads = 2
intermediate_dim = 32
[training]
epochs = 2
batch_size = 16
learning_rate = 3e-3
"""
PAIRS = """
name = "toy"
[data]
train = ["train.src", "train.tgt"]
test = ["test.src", "test.tgt"]
[text]
vocab_size = 300
[model]
name = "transformer_tiny"
hidden_dim = 64
num_layers = 1
num_heads = 4
intermediate_dim = 128
dropout = 0.0
max_positions = 32
[training]
epochs = 12
batch_size = 32
learning_rate = 4e-3
"""
# Read before the fixture below takes it away: all tests but one must do without.
_REAL_DATA = os.environ.get("KZOO_DATA")
WORDS = {"red": "rot", "old": "alt", "small": "klein", "dog": "hund", "cat": "katze", "bird": "vogel"}
WORDS |= {"sees": "sieht", "likes": "mag", "hears": "hört", "now": "jetzt", "here": "hier", "often": "oft"}


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KZOO_DATA", raising=False)


@pytest.fixture
def shelf(tmp_path):
    shelf = tmp_path / "models" / "mine"
    shelf.mkdir(parents=True)
    return shelf


@pytest.fixture
def mood(shelf):
    """A recipe for sentences whose last word tells their class."""
    write_table(shelf / "mood.csv", ("sentence", "mood"), moods())
    (shelf / "recipe.toml").write_text(TEXT, encoding="utf-8")
    return shelf / "recipe.toml"


@pytest.fixture
def halves(shelf):
    """A recipe for images that are bright on the left or on the right."""
    images = np.random.default_rng(0).integers(0, 60, (80, 8, 8), np.uint8)
    labels = np.arange(80) % 2
    images[labels == 0, :, :4] += 180
    images[labels == 1, :, 4:] += 180
    arrays = {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[60:]}
    np.savez(shelf / "halves.npz", **arrays, classes=np.array(["left", "right"]))
    (shelf / "recipe.toml").write_text(IMAGES, encoding="utf-8")
    return shelf / "recipe.toml"


def metrics_rows(directory):
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.backend
def test_texts_to_a_published_bundle(mood, tmp_path):
    lines = []
    result = kzoo.recipes.run(mood, publish=True, progress=lines.append)
    assert result.scores["accuracy"] > 0.9
    assert result.resumed_after == 0

    published = kzoo.load(mood.parent / "bundle")
    assert published.name == "mood"
    assert published("The tall girl never once laughs.")["label"] == "glad"
    assert published(["a small cat then cries"])[0]["label"] == "sad"
    assert published.manifest.metrics["accuracy"] == result.scores["accuracy"]
    assert [published(text)["label"] for text in published.manifest.examples].count("glad") == 2
    assert len(published.manifest.examples) == 4
    published.verify()

    card = (mood.parent / "README.md").read_text(encoding="utf-8")
    accuracy = f"{result.scores['accuracy']:.2%} ± "
    for part in (
        "# mood",
        "glad.",
        accuracy,
        "kzoo train recipe.toml",
        "`bert_tiny`, hidden_dim 32",
        "learning rate 0.005, seed 0",
        "Licence of the data: none needed",
    ):
        assert part in card
    assert str(tmp_path) not in card
    for picture in ("learning-curve", "confusion", "curves", "calibration"):
        assert (mood.parent / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({picture}.png)" in card
    assert "## Hardest examples" in card

    record = json.loads((result.directory / "run.json").read_text())
    assert record["recipe"]["training"]["seed"] == 0
    assert len(record["data"]["mood.csv"]) == 64
    assert {"kzoo", "keras", "python"} <= record["environment"]["versions"].keys()
    metrics = json.loads((result.directory / "metrics.json").read_text())
    assert metrics["examples"] == {"train": 116, "validation": 13, "test": 33}
    assert metrics["classes"].keys() == {"glad", "sad"}
    assert sum(sum(row.values()) for row in metrics["confusion"].values()) == 33
    assert [*metrics["margins"]] == ["accuracy", "macro_f1", "micro_f1"]
    rows = metrics_rows(result.directory)
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert metrics["epoch"] == int(best["epoch"])
    assert str(result.directory) in lines[0]


# Sleeps, so that there is time to kill it between two epochs.
_SLOW_RUN = """
import sys, time, keras, kzoo
kzoo.recipes.run(sys.argv[1], on_epoch=lambda *_: time.sleep(1), progress=print)
"""


def start_run(recipe):
    return subprocess.Popen(
        [sys.executable, "-c", _SLOW_RUN, recipe], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def wait_for_epoch(process, runs, epoch):
    for _ in range(1200):
        if list(runs.glob(f"*/*/checkpoints/epoch-{epoch:04d}.keras")):
            return
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.1)
    raise AssertionError("no epoch was finished within two minutes")


def interrupt_after(last):
    def on_epoch(epoch, epochs, logs):
        if epoch == last:
            raise KeyboardInterrupt

    return on_epoch


@pytest.mark.slow
@pytest.mark.backend
def test_a_killed_run_goes_on_after_its_last_epoch(mood, tmp_path):
    process = start_run(mood)
    wait_for_epoch(process, tmp_path / "runs", 2)
    process.kill()
    process.wait()
    (directory,) = (tmp_path / "runs" / "mood").iterdir()
    before = metrics_rows(directory)

    result = kzoo.recipes.run(mood)
    assert result.directory == directory
    assert result.resumed_after >= 2
    rows = metrics_rows(directory)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[: result.resumed_after] == before[: result.resumed_after]
    # Had the optimizer begun again, the learning rate would warm up again, and not end at 0.
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-6
    assert result.scores["accuracy"] > 0.9


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(mood):
    Tokenizer.train(["the tall girl laughs", "one old cat cries"], vocab_size=99).save(
        mood.parent / "own.json"
    )
    given = TEXT.replace("[text]\nvocab_size = 120\n", "").replace(
        "[model]\n", '[model]\ntokenizer = "own.json"\n'
    )
    mood.write_text(given, encoding="utf-8")
    lines = []
    with pytest.raises(KeyboardInterrupt):
        kzoo.recipes.run(mood, progress=lines.append, on_epoch=interrupt_after(2))
    assert lines[-1].startswith("Interrupted after epoch 2 of 6. The same command goes on")
    result = kzoo.recipes.run(mood, progress=lines.append)
    assert result.resumed_after == 2
    own = (mood.parent / "own.json").read_text(encoding="utf-8")
    assert (result.bundle / "tokenizer.json").read_text(encoding="utf-8") == own
    assert any(line == "Going on after epoch 2 of 6." for line in lines)


@pytest.mark.slow
@pytest.mark.backend
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_epoch(halves, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        kzoo.recipes.run(halves, overrides=["training.epochs=9"], on_epoch=interrupt_after(1))
    # The weights of the finished epoch are sound, the next step's are not.
    with monkeypatch.context() as patch:
        patch.setattr(
            "kzoo.recipes.data.images.normalize", lambda *_: np.full((16, 8, 8, 1), np.nan, "float32")
        )
        with pytest.raises(
            KzooError, match=r"no longer a number, at step 1 after epoch 1 of 9\. The checkpoint of epoch 1"
        ):
            kzoo.recipes.run(halves, overrides=["training.epochs=9"])
    assert kzoo.recipes.run(halves, overrides=["training.epochs=9"]).resumed_after == 1


@pytest.mark.slow
@pytest.mark.backend
def test_images_to_a_bundle(halves, tmp_path):
    varied = "{shift=0.1, rand_augment=1, magnitude=0.2, erase=0.2, mixup=0.2, cutmix=0.5, repeats=2}"
    overrides = [f"vision.augment={varied}", "training.label_smoothing=0.1", "training.epochs=12"]
    overrides += ['training.class_weights="balanced"', "evaluation.mirrored=true"]
    result = kzoo.recipes.run(halves, overrides=overrides)
    assert result.scores["accuracy"] > 0.9
    # What is left in an image is right in its mirror image, so that this mean must be worse.
    assert json.loads((result.directory / "metrics.json").read_text())["mirrored"] < 0.9
    bright_left = np.full((30, 40), 20, np.uint8)
    bright_left[:, :20] = 220
    assert kzoo.load(result.bundle)(bright_left)["label"] == "left"


@pytest.mark.slow
def test_a_bundle_in_integers_is_measured_against_float32(mood):
    lines = []
    overrides = [
        "training.epochs=2",
        "model.hidden_dim=64",
        "export.dtype=int8_static",
        "export.max_drop=1.0",
        "evaluation.show_texts=false",
    ]
    result = kzoo.recipes.run(mood, overrides=overrides, progress=lines.append)
    pipeline = kzoo.load(result.bundle)
    pipeline.verify()
    assert pipeline.manifest.examples is None
    assert pipeline.manifest.metrics["accuracy"] == result.scores["accuracy"]
    kept = json.loads((result.bundle / "export.json").read_text())["reduction"]
    assert kept["dtype"] == "int8_static"
    assert kept["metric_after"] == result.scores["accuracy"]
    assert any("model in int8_static" in line for line in lines)


@pytest.mark.slow
@pytest.mark.backend
def test_texts_to_texts(shelf):
    require("sacrebleu")
    chance = random.Random(0)
    subjects = [
        f"{adjective} {noun}" for adjective in ("red", "old", "small") for noun in ("dog", "cat", "bird")
    ]
    verbs, ends = ("sees", "likes", "hears"), ("now", "here", "often")
    texts = [" ".join(parts) for parts in itertools.product(subjects, verbs, subjects, ends)]
    chance.shuffle(texts)
    for name, part in (("train", texts[:300]), ("test", texts[300:350])):
        translated = [" ".join(WORDS[word] for word in text.split()) for text in part]
        (shelf / f"{name}.src").write_text("\n".join(part) + "\n", encoding="utf-8")
        (shelf / f"{name}.tgt").write_text("\n".join(translated) + "\n", encoding="utf-8")
    (shelf / "recipe.toml").write_text(PAIRS, encoding="utf-8")
    overrides = ["evaluation.num_beams=2", "evaluation.language=de", "export.target=cpu"]
    result = kzoo.recipes.run(shelf / "recipe.toml", overrides=overrides, publish=True)
    assert list(result.scores) == ["bleu", "chrf", "ter", "bleu_lowercased_tokenized"]
    assert result.scores["bleu"] > 80
    card = (shelf / "README.md").read_text(encoding="utf-8")
    assert f"| bleu | {result.scores['bleu']:.1f} ± " in card
    assert "with 2 beams" in card
    assert "tok:13a" in card
    assert "moses:lc.norm.tok.de" in card
    assert json.loads((result.bundle / "export.json").read_text())["target"] == "cpu"
    translate = kzoo.load(result.bundle)
    assert translate("old cat hears small bird often")["translation"] == "alt katze hört klein vogel oft"


@pytest.mark.slow
def test_real_sentences(shelf, monkeypatch):
    data = _REAL_DATA
    if not data or not (Path(data) / "multi30k").is_dir():
        pytest.skip("needs multi30k in $KZOO_DATA")
    require("sacrebleu")
    monkeypatch.setenv("KZOO_DATA", data)
    (shelf / "recipe.toml").write_text(PAIRS, encoding="utf-8")
    result = kzoo.recipes.run(
        shelf / "recipe.toml",
        overrides=[
            'data.train=["multi30k/val.en.gz", "multi30k/val.de.gz"]',
            'data.test=["multi30k/test_2016_flickr.en.gz", "multi30k/test_2016_flickr.de.gz"]',
            "text.vocab_size=1000",
            "model.max_positions=64",
            "training.epochs=2",
        ],
    )
    (first, second) = metrics_rows(result.directory)
    assert float(second["loss"]) < float(first["loss"])
    assert 0 < result.scores["chrf"] < 100


@pytest.mark.slow
@pytest.mark.backend
def test_a_damaged_image_is_named(halves):
    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8), np.uint8)
    for index, image in enumerate(images):
        path = halves.parent / "images" / ("left" if index % 2 else "right") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    path.write_bytes(path.read_bytes()[:60])
    overrides = ["data.format=folders", "data.train=images", "data.test=images", "training.batch_size=4"]
    with pytest.raises(KzooError, match=r"23\.png\) is damaged"):
        kzoo.recipes.run(halves, overrides=overrides)


def test_mistakes_leave_no_run_behind(mood, tmp_path, monkeypatch):
    for overrides, message in (
        (["training.epoch=1"], "epochs"),
        (["data.text=sentense"], "Did you mean 'sentence'"),
        (["data.train=missing.csv"], "is missing"),
        (["data.test_share=0.001"], "Cannot set 0.001"),
        (["model.name=bert_tinny"], "Did you mean 'bert_tiny'"),
        (["model.num_layer=3"], "Did you mean 'num_layers'"),
        (["model.name=vit_micro_patch4_32"], "Unknown option 'max_positions' for ViT"),
    ):
        with pytest.raises(KzooError, match=message):
            kzoo.recipes.run(mood, overrides=overrides)
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_published_without_training_again(halves):
    trained = kzoo.recipes.run(halves, overrides=["training.epochs=2"])
    assert not (halves.parent / "bundle").exists()
    result = kzoo.recipes.run(halves, overrides=["training.epochs=2"], publish=True)
    assert (result.directory, result.resumed_after) == (trained.directory, 2)
    assert result.scores == trained.scores
    assert kzoo.load(halves.parent / "bundle").manifest.metrics["accuracy"] == trained.scores["accuracy"]
    assert kzoo.recipes.run(halves, overrides=["training.epochs=2"]).directory != trained.directory


def test_a_shelf_that_cannot_be_published_to_is_refused_before_training(mood, tmp_path):
    (mood.parent / "bundle").mkdir()
    (mood.parent / "bundle" / "thesis.txt").touch()
    with pytest.raises(KzooError, match="holds something that is not a bundle"):
        kzoo.recipes.run(mood, publish=True)
    with pytest.raises(KzooError, match="part of kzoo"):
        kzoo.recipes.run(kzoo.recipes.DIGITS, publish=True)
    assert not (tmp_path / "runs").exists()


def test_there_must_be_something_to_test_on(mood):
    mood.write_text(TEXT.replace("test_share = 0.2\n", ""), encoding="utf-8")
    with pytest.raises(KzooError, match="nothing to test on"):
        kzoo.recipes.run(mood)
