"""Training by updates on pairs of texts: killed and gone on with, averaged, stopped early."""

import csv
import itertools
import random
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.training.keeping import Keeper
from tests.optional import require
from tests.recipes.learning import learn

RECIPE = """
name = "toy"
[data]
train = ["train.src", "train.tgt"]
validation = ["test.src", "test.tgt"]
test = ["test.src", "test.tgt"]
[text]
vocab_size = 300
dropout = 0.1
[model]
name = "transformer_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
dropout = 0.1
max_positions = 64
[training]
max_steps = 12
batch_tokens = 512
checkpoint_every = 3
learning_rate = 1e-2
schedule = "inverse_sqrt"
warmup_steps = 4
betas = [0.9, 0.98]
label_smoothing = 0.1
accumulate = 2
average = 4
"""
WORDS = {"red": "rot", "old": "alt", "dog": "hund", "cat": "katze", "sees": "sieht", "likes": "mag"}


@pytest.fixture
def toy(tmp_path):
    for package in ("keras", "sacrebleu"):
        require(package)
    nouns = [f"{adjective} {noun}" for adjective in ("red", "old") for noun in ("dog", "cat")]
    texts = [" ".join(parts) for parts in itertools.product(nouns, ("sees", "likes"), nouns, ("", "red dog"))]
    random.Random(0).shuffle(texts)
    for name, part in (("train", texts[:40] * 3), ("test", texts[40:50])):
        translated = [" ".join(WORDS[word] for word in text.split()) for text in part]
        (tmp_path / f"{name}.src").write_text("\n".join(map(str.strip, part)) + "\n", encoding="utf-8")
        (tmp_path / f"{name}.tgt").write_text("\n".join(translated) + "\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


def rows_of(run):
    with (run.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.backend
def test_a_killed_training_ends_where_an_undisturbed_one_does(toy, tmp_path):
    whole, last, run = learn(toy, tmp_path / "whole")
    assert last == 4
    # What is on disk when it is killed while it writes its third checkpoint.
    (directory,) = (tmp_path / "whole").iterdir()
    killed = tmp_path / "killed" / directory.name
    shutil.copytree(directory, killed)
    for epoch in (3, 4):
        (killed / "checkpoints" / f"epoch-{epoch:04d}.keras").unlink()
    (killed / "checkpoints" / "partial-epoch-0003.keras").write_bytes(b"half of it")

    again, same, other = learn(toy, tmp_path / "killed")
    assert other.path == killed
    assert same == last
    rows = rows_of(run)
    assert rows_of(other) == rows
    for mine, its in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)

    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    # Inverse square root: the peak of 1e-2 after 4 updates.
    assert float(rows[-1]["learning_rate"]) == pytest.approx(1e-2 * (4 / 12) ** 0.5, rel=0.03)
    assert int(rows[-1]["data_pass"]) >= 1
    assert " | alt hund sieht " in (run.path / "log.txt").read_text(encoding="utf-8")
    mean = averaged(whole, [run.checkpoint(epoch) for epoch in (1, 2, 3, 4)])
    for mine, its in zip(again.trainable_variables, mean, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(mine), its, atol=1e-6)


@pytest.mark.slow
def test_a_training_goes_on_when_other_updates_are_asked_for(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))

    def begins_with(*overrides):
        """Return the first checkpoint that a run makes, which ends there, and how many it is to make."""
        seen = []

        def on_epoch(number, total, _):
            seen.append((number, total))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            kzoo.recipes.run(toy, overrides=overrides, on_epoch=on_epoch)
        return seen[0]

    assert begins_with("training.max_steps=6") == (1, 2)
    assert begins_with() == (2, 4)
    with pytest.raises(KzooError, match=r"is at update 6 of 3 already: raise training\.max_steps"):
        kzoo.recipes.run(toy, overrides=["training.max_steps=3"])
    # Where the rate falls to nothing at the last update, another last update is another training.
    assert begins_with("training.schedule=cosine") == (1, 4)
    assert begins_with("training.schedule=cosine", "training.max_steps=6") == (1, 2)


def averaged(model, checkpoints):
    sums = [0.0] * len(model.trainable_variables)
    for checkpoint in checkpoints:
        model.load_weights(checkpoint)
        for place, variable in enumerate(model.trainable_variables):
            sums[place] = sums[place] + keras.ops.convert_to_numpy(variable).astype(np.float64)
    return [total / len(checkpoints) for total in sums]


@pytest.mark.slow
def test_a_training_in_mixed_precision_keeps_float32_weights(toy, tmp_path):
    overrides = ["training.precision=mixed_bfloat16", "training.max_steps=1", "training.checkpoint_every=1"]
    model, _, run = learn(toy, tmp_path / "runs", overrides)
    assert model.compute_dtype == "bfloat16"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert 0 < float(rows_of(run)[0]["loss"]) < 20


@pytest.mark.parametrize(
    ("bleus", "best", "over"),
    [([1.0], 1, False), ([3.0, 1.0], 1, False), ([3.0, 1.0, 2.0], 1, True), ([1.0, 3.0, 3.0, 2.0], 3, False)],
)
def test_patience_ends_a_training(toy, bleus, best, over):
    rows = [{"val_loss": 5.0, "val_bleu": bleu} for bleu in bleus]
    keeper = Keeper(SimpleNamespace(history=lambda: rows), load_recipe(toy, ["training.patience=2"]), None)
    assert (keeper.best(), keeper.is_over()) == (best, over)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epochs=3"], "either epochs or max_steps"),
        (["training.checkpoint_every=5"], "not a multiple"),
        (["training.label_smoothing=1.0"], "less than 1"),
        (["training.schedule=linear"], "'cosine' or 'inverse_sqrt'"),
        (["text.dropout=-0.1"], "greater than or equal to 0"),
    ],
)
def test_contradictions_are_named(toy, overrides, message):
    with pytest.raises(KzooError, match=message):
        load_recipe(toy, overrides)


def test_what_belongs_together_is_asked_for(toy):
    for field, message in (
        ("batch_tokens = 512\n", "max_steps needs batch_tokens too"),
        ("checkpoint_every = 3\n", "max_steps needs checkpoint_every too"),
    ):
        toy.write_text(RECIPE.replace(field, ""), encoding="utf-8")
        with pytest.raises(KzooError, match=message):
            load_recipe(toy)
    toy.write_text(RECIPE.replace('validation = ["test.src", "test.tgt"]\n', ""), encoding="utf-8")
    with pytest.raises(KzooError, match=r"patience needs data\.validation"):
        load_recipe(toy, ["training.patience=2"])
