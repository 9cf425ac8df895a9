"""Searches: what is tried, what is stopped early, what is left after a stop, and what comes out."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace

import pytest

from kzoo import KzooError
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.tuning import searching
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require
from tests.recipes.learning import moods, write_table

RECIPE = """
name = "mood"
[data]
train = "mood.csv"
validation_share = 0.2
test_share = 0.2
text = "sentence"
label = "mood"
[text]
vocab_size = 120
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
dropout = 0.0
max_positions = 16
[training]
epochs = 4
batch_size = 16
learning_rate = 1e-4
"""
SEARCH = """
recipe = "recipe.toml"
trials = 14
[fields]
"training.learning_rate" = { low = 1e-5, high = 1e-1, log = true }
"model.num_heads" = [2, 4, 5]
"""


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A search's file beside its recipe and the data."""
    for package in ("keras", "sklearn", "matplotlib", "optuna"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KZOO_DATA", raising=False)
    write_table(tmp_path / "mood.csv", ("sentence", "mood"), moods())
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "search.toml").write_text(SEARCH, encoding="utf-8")
    return tmp_path / "search.toml"


@pytest.fixture
def pretended(monkeypatch):
    """Trainings that take no time: best at a learning rate of 0.001, impossible with five heads."""

    def build(recipe, parts, beside):
        if recipe.model.knobs["num_heads"] == 5:
            raise KzooError("hidden_dim=32 is not a multiple of num_heads=5.")

    def train(model, recipe, parts, run, beside, verbose, tell):
        epochs = recipe.training.epochs
        quality = 1 - abs(math.log10(recipe.training.learning_rate) + 3) / 3
        for epoch in range(1, epochs + 1):
            score = quality * epoch / epochs
            tell(
                epoch, epochs, {"epoch": epoch, "seconds": 0.5, "val_accuracy": score, "val_loss": 1 - score}
            )

    monkeypatch.setattr(searching, "build_model", build)
    monkeypatch.setattr(searching, "train", train)


def told(found):
    return [(trial.values, trial.state, trial.scores) for trial in found.trials]


def test_values_get_better_bad_ones_are_stopped_and_impossible_ones_left_out(search, pretended):
    found = searching.tune(search)
    states = {trial.state for trial in found.trials}
    assert states == {"finished", "stopped", "failed"}
    first = found.trials[0]
    assert first.values == {"training.learning_rate": 1e-4, "model.num_heads": 2}  # the recipe's own
    assert found.best.score == max(trial.score for trial in found.trials if trial.score is not None)
    assert found.best.score > first.score
    assert 3e-4 < found.best.values["training.learning_rate"] < 3e-3
    for trial in found.trials:
        assert (trial.values["model.num_heads"] == 5) == (trial.state == "failed")
        assert ("num_heads=5" in trial.reason) == (trial.state == "failed")
        assert (len(trial.scores) < 4) == (trial.state != "finished")
    assert sum(found.importances.values()) == pytest.approx(1)
    assert found.importances["training.learning_rate"] > found.importances["model.num_heads"]


def test_a_search_that_was_stopped_tries_what_it_would_have_tried(search, pretended, tmp_path, monkeypatch):
    whole = searching.tune(search)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "others"))

    def stop_at(number):
        def hear(line):
            if line.startswith(f"Trial {number} of"):
                raise KeyboardInterrupt

        return hear

    for number in (2, 9, 10):
        with pytest.raises(KeyboardInterrupt):
            searching.tune(search, progress=stop_at(number))
    assert told(searching.tune(search)) == told(whole)

    # More trials are more of the same search; another range is another one.
    search.write_text(SEARCH.replace("trials = 14", "trials = 16"), encoding="utf-8")
    more = searching.tune(search)
    assert told(more)[:14] == told(whole) and len(more.trials) == 16
    search.write_text(SEARCH.replace("1e-1", "1e-2").replace("14", "1"), encoding="utf-8")
    assert searching.tune(search).directory != more.directory


@pytest.mark.parametrize("prune", ["hyperband", "none"])
def test_other_ways_of_stopping_early(search, pretended, prune):
    search.write_text(f'prune = "{prune}"{SEARCH}', encoding="utf-8")
    states = {trial.state for trial in searching.tune(search).trials}
    assert ("stopped" in states) == (prune == "hyperband")


def test_the_command_tells_what_is_best_and_draws_it(search, pretended, tmp_path):
    result = kzoo_command("tune", search, "--set", "training.epochs=3")
    assert result.exit_code == 0, result.stderr
    assert "Trial 1 of 14: learning_rate 0.0001, num_heads 2" in result.stderr
    (folder,) = (tmp_path / "runs" / "mood-tuning").iterdir()
    written = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    best = written["best"]["values"]["training.learning_rate"]
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["trial", "learning_rate", "num_heads", "checkpoints", "accuracy"]
    assert lines[2].split()[:2] == [str(written["best"]["number"]), f"{best:.3g}"]
    assert lines[-1].startswith(
        "kzoo train recipe.toml --set training.epochs=3 --set training.learning_rate="
    )

    # What it says is a recipe, which finds its data from where it is.
    recipe = load_recipe(folder / "best.toml")
    assert (recipe.training.learning_rate, recipe.training.epochs) == (best, 3)
    assert searching.load_parts(recipe, folder).labels == ["glad", "sad"]
    assert tomllib.loads((folder / "best.toml").read_text(encoding="utf-8"))["data"]["text"] == "sentence"
    for picture in ("parallel.png", "importances.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in (folder / "tuning.md").read_text(encoding="utf-8")


def test_mistakes_come_before_any_training(search, tmp_path):
    recipe = tmp_path / "recipe.toml"
    search.write_text(SEARCH.replace("training.learning_rate", "training.learning_rat"), encoding="utf-8")
    assert_mistake(kzoo_command("tune", search), "Did you mean 'learning_rate'")
    search.write_text(SEARCH, encoding="utf-8")
    recipe.write_text(RECIPE.replace("validation_share = 0.2", ""), encoding="utf-8")
    assert_mistake(kzoo_command("tune", search), "chooses on validation data")
    recipe.write_text(RECIPE.replace("[training]", "[training]\nseeds = [1, 2]"), encoding="utf-8")
    assert_mistake(kzoo_command("tune", search), "training.seeds is for")
    assert_mistake(kzoo_command("tune", tmp_path / "no.toml"), "no.toml cannot be read")
    assert not (tmp_path / "runs").exists()


def test_values_that_come_up_again_are_not_trained_again(search, pretended):
    search.write_text(
        SEARCH.replace("{ low = 1e-5, high = 1e-1, log = true }", "[1e-4, 1e-3]"), encoding="utf-8"
    )
    found = searching.tune(search)
    trained = [trial.values for trial in found.trials if trial.seconds]
    assert 0 < len(trained) == len({*map(str, trained)}) < len(found.trials)
    first = {str(trial.values): trial for trial in reversed(found.trials)}
    for trial in found.trials:
        twin = first[str(trial.values)]
        assert (trial.state, trial.scores, trial.score) == (twin.state, twin.scores, twin.score)


def test_a_search_without_a_finished_trial_says_why(search, pretended):
    search.write_text(SEARCH.replace("[2, 4, 5]", "[5, 5]").replace("14", "2"), encoding="utf-8")
    with pytest.raises(KzooError, match=r"No trial was finished.*num_heads=5"):
        searching.tune(search)


@pytest.mark.slow
def test_real_trainings_go_on_in_their_epoch_and_see_no_test_data(search, tmp_path, monkeypatch):
    class Hidden:
        def __getattr__(self, name):
            raise AssertionError("the test data was looked at")

    real_parts, real_train = searching.load_parts, searching.train
    monkeypatch.setattr(searching, "load_parts", lambda *given: replace(real_parts(*given), test=Hidden()))
    search.write_text(
        'recipe = "recipe.toml"\ntrials = 2\n[fields]\n"training.learning_rate" = { low = 4e-3, high = 8e-3 }\n',
        encoding="utf-8",
    )
    epochs = []

    def train(model, recipe, parts, run, beside, verbose, tell):
        def hear(epoch, count, row):
            epochs.append((run.path.name, epoch))
            tell(epoch, count, row)
            if epochs.count(("001", 2)) == 1 and epochs[-1] == ("001", 2):
                raise KeyboardInterrupt

        return real_train(model, recipe, parts, run, beside, verbose, hear)

    monkeypatch.setattr(searching, "train", train)
    with pytest.raises(KeyboardInterrupt):
        searching.tune(search)
    found = searching.tune(search)
    assert epochs == [(trial, epoch) for trial in ("001", "002") for epoch in (1, 2, 3, 4)]
    assert [len(trial.scores) for trial in found.trials] == [4, 4]
    assert found.metric == "accuracy"
    assert found.best.score == max(max(trial.scores) for trial in found.trials) > 0.6
    assert not [*found.directory.glob("trials/*/checkpoints")]
