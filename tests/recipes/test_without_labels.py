"""Recipes that learn from images or texts without labels first."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo import KzooError
from kzoo.models.initialization import variables
from kzoo.recipes.data.parts import load_parts
from kzoo.recipes.directory import open_run
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.training.building import build_model
from kzoo.recipes.training.without_labels import learn_without_labels
from kzoo.recipes.tuning.searching import tune
from tests.optional import require
from tests.recipes.learning import moods, write_table

RECIPE = """
name = "greys"
[data]
format = "folders"
train = "labelled"
validation_share = 0.25
test_share = 0.25
[vision.augment]
flip = true
mixup = 1.0
[model]
name = "vit_micro_patch4_32"
image_size = 8
patch_size = 2
hidden_dim = 16
num_layers = 1
num_heads = 2
intermediate_dim = 32
[pretraining]
epochs = 3
learning_rate = 2e-3
unlabelled = ["more"]
[training]
epochs = 1
batch_size = 8
learning_rate = 1e-3
"""


@pytest.fixture
def greys(tmp_path, monkeypatch):
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    random = np.random.default_rng(0)
    for folder, brightest, count in (
        ("labelled/dark", 100, 12),
        ("labelled/light", 255, 12),
        ("more/deep", 200, 20),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(brightest - 80, brightest, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "greys.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "greys.toml"


def pretrained(path, runs, on_epoch=None):
    """Return the weights of a model after its pretraining, and the run's directory."""
    recipe = load_recipe(path)
    parts = load_parts(recipe, path.parent)
    model = build_model(recipe, parts, path.parent)
    run = open_run(runs, {}, {}, False, None)
    learn_without_labels(model, recipe, parts, run, path.parent, 0, on_epoch)
    return {name: keras.ops.convert_to_numpy(value) for name, value in variables(model).items()}, run


class StoppedError(Exception):
    pass


@pytest.mark.backend
def test_a_stopped_pretraining_ends_where_an_undisturbed_one_does(greys, tmp_path):
    def stop(epoch, epochs, row):
        if epoch == 2:
            raise StoppedError

    whole, run = pretrained(greys, tmp_path / "whole")
    losses = [row["val_loss"] for row in run.part("pretraining").history()]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    with pytest.raises(StoppedError):
        pretrained(greys, tmp_path / "stopped", stop)
    later, run = pretrained(greys, tmp_path / "stopped")
    assert [row["val_loss"] for row in run.part("pretraining").history()] == pytest.approx(losses, rel=1e-3)
    for name, values in whole.items():
        np.testing.assert_allclose(later[name], values, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_training_follows_and_the_card_says_so(greys, tmp_path):
    said = []
    stopped = []

    def stop(epoch, epochs, row):
        if epoch == 2 and epochs == 3 and not stopped:
            stopped.append(epoch)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kzoo.recipes.run(greys, progress=said.append, on_epoch=stop)
    assert "Interrupted after epoch 2 of 3 of the pretraining." in said[-1]
    result = kzoo.recipes.run(greys, publish=True, progress=said.append, on_epoch=stop)
    assert "Going on after epoch 2 of 3 of the pretraining." in said
    assert "Learning from 33 images without labels." in said
    assert result.scores["accuracy"] >= 0
    assert "1 epochs after 3 without labels" in (tmp_path / "README.md").read_text(encoding="utf-8")
    labels = [answer["label"] for answer in kzoo.load(result.bundle)([tmp_path / "more/deep/0.png"])]
    assert labels[0] in ("dark", "light")
    # Other images without labels make another run.
    (tmp_path / "more/deep/0.png").unlink()
    assert kzoo.recipes.run(greys).directory != result.directory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.name=cct_2_3x2_32", "does not cut images into patches alone"),
        ("pretraining.share=0.01", "give one that hides some"),
        ('pretraining.unlabelled=["empty"]', "empty has no images"),
        ('pretraining.unlabelled=["nowhere"]', "nowhere"),
        ("training.freeze=backbone", "trains the whole model: leave lora, freeze and unfreeze_every out"),
        ("pretraining.steps=3", "unknown field"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_run(greys, tmp_path, change, message):
    (tmp_path / "empty").mkdir()
    changes = [change]
    if "cct" in change:
        text = greys.read_text(encoding="utf-8")
        greys.write_text(text.replace("patch_size = 2\n", ""), encoding="utf-8")
    with pytest.raises(KzooError, match=message):
        kzoo.recipes.run(greys, overrides=changes)
    assert not (tmp_path / "runs").exists()


TEXTS = """
name = "mood"
[data]
train = "mood.csv"
validation_share = 0.25
test_share = 0.25
text = "sentence"
label = "mood"
[text]
vocab_size = 120
[model]
name = "electra_small"
embedding_dim = 16
hidden_dim = 16
num_layers = 1
num_heads = 4
intermediate_dim = 32
dropout = 0.0
max_positions = 16
[pretraining]
epochs = 3
learning_rate = 5e-3
unlabelled = ["more.txt"]
[training]
epochs = 1
batch_size = 16
learning_rate = 1e-3
"""


@pytest.fixture
def texts(tmp_path, monkeypatch):
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    write_table(tmp_path / "mood.csv", ("sentence", "mood"), moods())
    (tmp_path / "more.txt").write_text("a small girl laughs\n\nthe tall man sighs\n" * 9, encoding="utf-8")
    (tmp_path / "mood.toml").write_text(TEXTS, encoding="utf-8")
    return tmp_path / "mood.toml"


@pytest.mark.backend
def test_a_classifier_of_texts_has_the_backbone_that_found_replaced_tokens(texts, tmp_path):
    recipe = load_recipe(texts)
    fresh = variables(build_model(recipe, load_parts(recipe, tmp_path), tmp_path))
    fresh = {name: keras.ops.convert_to_numpy(value) for name, value in fresh.items()}
    found, run = pretrained(texts, tmp_path / "run")
    losses = [row["val_discriminator_loss"] for row in run.part("pretraining").history()]
    assert losses[-1] < losses[0]
    moved = {name for name, values in found.items() if np.abs(values - fresh[name]).max() > 1e-4}
    assert any("token_embedding" in name for name in moved)
    assert not {name for name in moved if not name.startswith("backbone/")}


@pytest.mark.slow
def test_texts_without_labels_come_first_and_a_stopped_run_goes_on(texts, tmp_path):
    said = []
    stopped = []

    def stop(epoch, epochs, row):
        if epoch == 2 and epochs == 3 and not stopped:
            stopped.append(epoch)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kzoo.recipes.run(texts, progress=said.append, on_epoch=stop)
    result = kzoo.recipes.run(texts, publish=True, progress=said.append, on_epoch=stop)
    assert "Going on after epoch 2 of 3 of the pretraining." in said
    rows = (result.directory / "pretraining/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 4
    learnt = next(line for line in said if line.endswith("texts without labels."))
    metrics = json.loads((result.directory / "metrics.json").read_text(encoding="utf-8"))
    assert learnt == f"Learning from {metrics['examples']['train'] + 18} texts without labels."
    assert "1 epochs after 3 without labels" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert kzoo.load(result.bundle)("the tall girl always cries")["label"] in ("glad", "sad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.name=bert_tiny", r"no texts for Bert: take an ELECTRA, or name another recipe"),
        ("pretraining.share=0.3", r"pretraining\.share is for images"),
        ('pretraining.unlabelled=["nowhere.txt"]', "nowhere"),
        ("pretraining.unlabelled_text=sentence", "more.txt"),
        ("model.hidden_dim=18", "a generator of a fourth needs multiples"),
        ("distillation.teacher=teacher.toml", "does not go with the section 'distillation'"),
    ],
)
def test_texts_that_cannot_be_learnt_from_so_are_refused_before_there_is_a_run(
    texts, tmp_path, change, message
):
    if "bert" in change:
        texts.write_text(TEXTS.replace("embedding_dim = 16\n", ""), encoding="utf-8")
    changes = [change, "model.num_heads=2"] if "hidden_dim" in change else [change]
    with pytest.raises(KzooError, match=message):
        kzoo.recipes.run(texts, overrides=changes)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_image_without_labels_is_named(greys, tmp_path):
    (tmp_path / "more/deep/3.png").write_bytes(b"none")
    with pytest.raises(KzooError, match=r"3\.png"):
        pretrained(greys, tmp_path / "run")


@pytest.mark.slow
def test_each_trial_of_a_search_learns_so_too(greys, tmp_path):
    require("optuna")
    (tmp_path / "search.toml").write_text(
        'recipe = "greys.toml"\ntrials = 1\n[fields]\n"training.learning_rate" = [1e-3, 2e-3]\n',
        encoding="utf-8",
    )
    tune(tmp_path / "search.toml")
    (trial,) = (tmp_path / "runs").glob("greys-tuning/*/trials/001")
    assert len((trial / "pretraining/metrics.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert not [*trial.rglob("*.keras")]
