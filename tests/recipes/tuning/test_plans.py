"""What a search's file may say, and the recipe that is written at its end."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kzoo import KzooError
from kzoo.recipes.schema.config import apply_overrides
from kzoo.recipes.tuning.plans import Span, as_overrides, load_plan, to_toml

GOOD = """
recipe = "recipe.toml"
trials = 7
[fields]
"training.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
"training.epochs" = { low = 2, high = 8 }
"model.num_layers" = [1, 2, 4]
"training.schedule" = ["cosine", "inverse_sqrt"]
"""


def test_values_and_ranges(tmp_path):
    (tmp_path / "search.toml").write_text(GOOD)
    plan = load_plan(tmp_path / "search.toml")
    assert (plan.trials, plan.prune) == (7, "median")
    rate, epochs = plan.fields["training.learning_rate"], plan.fields["training.epochs"]
    assert isinstance(rate, Span) and not rate.is_whole
    assert isinstance(epochs, Span) and epochs.is_whole
    assert plan.first() == {
        "training.learning_rate": 1e-4,
        "training.epochs": 2,
        "model.num_layers": 1,
        "training.schedule": "cosine",
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trials = 7", "trails = 7", "trails: unknown field. Did you mean 'trials'"),
        ("log = true", "logs = true", "learning_rate.logs: unknown field. Did you mean 'log'"),
        ("low = 1e-4", "low = 1.0", "low is less than high"),
        ("low = 1e-4", "low = 0", "log = true is for numbers above 0"),
        ("[1, 2, 4]", "2", r"model.num_layers: write several values, \[1, 2, 4\], or a range"),
        ("[1, 2, 4]", "[2]", "at least 2 items"),
        ("model.num_layers", "data.train", "'data.train': a field of model, training"),
        ("model.num_layers", "num_layers", "'num_layers': a field of"),
        ("model.num_layers", "model.pretrained", "'model.pretrained' is the same in all trials"),
        ('recipe = "recipe.toml"', "", "recipe: Field required"),
        ("trials = 7", "trials =", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, said):
    (tmp_path / "search.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(KzooError, match=said):
        load_plan(tmp_path / "search.toml")


def test_a_file_that_is_not_there():
    with pytest.raises(KzooError, match=r"no\.toml cannot be read"):
        load_plan(Path("no.toml"))


def test_what_is_written_is_read_again():
    recipe = {
        "name": "mood",
        "description": 'Says "glad"\n\tor \\ sad: ü',
        "data": {"train": ["a.en", "b.de"], "label_names": {"0": "none of it", "ü": "b"}, "test_share": 0.1},
        "text": {"augment": {"swap": 1e-05}},
        "model": {"name": "bert_tiny", "dropout": 0.0},
        "training": {"epochs": 3, "betas": [0.9, 0.98], "class_weights": {}},
        "evaluation": {"show_texts": False},
    }
    assert tomllib.loads(to_toml(recipe)) == recipe


def test_overrides_say_the_same():
    values = {
        "training.learning_rate": 1.5e-05,
        "model.name": 'a "b"=c',
        "evaluation.mirrored": True,
        "model.x": 3,
    }
    changed = apply_overrides({}, as_overrides(values))
    assert changed == {
        "training": {"learning_rate": 1.5e-05},
        "model": {"name": 'a "b"=c', "x": 3},
        "evaluation": {"mirrored": True},
    }
