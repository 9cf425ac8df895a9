"""What `kzoo train` does before it exports."""

from pathlib import Path

from kzoo.recipes.building import build_model
from kzoo.recipes.config import load_recipe
from kzoo.recipes.directory import open_run
from kzoo.recipes.fitting import train
from kzoo.recipes.parts import load_parts


def learn(path, runs, overrides=(), on_epoch=None):
    """Return the trained model, the checkpoint that was chosen, and the run's directory."""
    recipe = load_recipe(path, overrides)
    parts = load_parts(recipe, Path(path).parent)
    model = build_model(recipe, parts, Path(path).parent)
    run = open_run(Path(runs), {}, {}, False, None)
    return model, train(model, recipe, parts, run, Path(path).parent, 0, on_epoch), run
