"""Training by updates on pairs of texts: killed and gone on with, averaged, stopped early."""

import csv
import itertools
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kzoo import KzooError
from kzoo.recipes.config import load_recipe
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
average = 2
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
    arguments = [sys.executable, "-m", "tests.recipes.learning", toy, tmp_path / "killed"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(1200):
        if list((tmp_path / "killed").glob("*/checkpoints/epoch-0002.keras")):
            break
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed, last, run = learn(toy, tmp_path / "killed")
    whole, same, other = learn(toy, tmp_path / "whole")

    assert last == same == 4
    assert rows_of(run) == rows_of(other)
    rows = rows_of(run)
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    # Inverse square root: the peak of 1e-2 after 4 updates, half of it after 16.
    assert float(rows[-1]["learning_rate"]) == pytest.approx(1e-2 * (4 / 12) ** 0.5, rel=0.03)
    # Far more than one pass was read.
    assert int(rows[-1]["data_pass"]) >= 2
    assert float(rows[-1]["val_bleu"]) >= 0
    for mine, its in zip(killed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert "| " in (run.path / "log.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_last_checkpoints_are_averaged_and_patience_ends_a_training(toy, tmp_path):
    overrides = ["training.learning_rate=1e-9", "training.patience=1", "training.precision=mixed_bfloat16"]
    model, last, run = learn(toy, tmp_path / "runs", overrides)
    # Nothing is learnt: the second checkpoint is as good as the first, and the later of equals counts.
    assert last < 4 or len(rows_of(run)) == 4
    averaged = model.get_weights()
    sums = [0.0] * len(model.trainable_variables)
    for epoch in (last - 1, last):
        model.load_weights(run.checkpoint(epoch))
        for place, variable in enumerate(model.trainable_variables):
            sums[place] = sums[place] + np.asarray(variable.numpy(), np.float64)
    for total, mean in zip(sums, averaged, strict=False):
        np.testing.assert_allclose(total / 2, mean, atol=1e-6)


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
