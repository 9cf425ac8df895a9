"""Data of the tests' own making, and what `kzoo train` does before it exports."""

import csv
import itertools
from pathlib import Path

from kzoo.recipes.data.parts import load_parts
from kzoo.recipes.directory import open_run
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.training.building import build_model
from kzoo.recipes.training.fitting import train

ENDS = {"glad": ("laughs", "dances", "smiles"), "sad": ("cries", "mourns", "sighs")}


def moods():
    """Return sentences whose last word tells their class, with the class."""
    who = [
        f"{size} {person}" for size in ("the tall", "a small", "one old") for person in ("man", "girl", "cat")
    ]
    return [
        (f"{person} {verb} {word}", mood)
        for mood, words in ENDS.items()
        for person, verb, word in itertools.product(who, ("always", "then", "never once"), words)
    ]


def write_table(path, names, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])


def learn(path, runs, overrides=(), on_epoch=None):
    """Return the trained model, the checkpoint that was chosen, and the run's directory."""
    recipe = load_recipe(path, overrides)
    folder = Path(path).parent
    parts = load_parts(recipe, folder)
    model = build_model(recipe, parts, folder)
    run = open_run(Path(runs), {}, {}, False, None)
    return model, train(model, recipe, parts, run, folder, 0, on_epoch), run
