"""The run of another recipe, which one begins with: found, or made first."""

from __future__ import annotations

from pathlib import Path

from kzoo.errors import KzooError
from kzoo.recipes.data.parts import load_parts
from kzoo.recipes.directory import Progress, newest_finished, runs_home
from kzoo.recipes.schema.config import Recipe, load_recipe
from kzoo.recipes.training.checkpoints import RECIPE


def find_run(path: Path) -> Path | None:
    """Return the directory of the newest finished run of a recipe, on the data as it is, if there is one.

    Raises:
        KzooError: the recipe is wrong, or its data cannot be read.
    """
    from kzoo.recipes.running import identity

    recipe = load_recipe(path)
    return newest_finished(runs_home() / recipe.name, identity(recipe, load_parts(recipe, path.parent)))


def run_before(path: Path, progress: Progress | None, what: str) -> Path:
    """Return the directory of a recipe's finished run, after training it if there is none.

    Args:
        path: the recipe.
        progress: as for `kzoo.recipes.run`.
        what: the recipe makes, for the log.
    """
    from kzoo.recipes.running import run

    found = find_run(path)
    if found is None:
        if progress is not None:
            progress(f"{what} comes first: {path}")
        return run(path, progress=progress).directory
    if progress is not None:
        progress(f"{what} is there: {found}")
    return found


def pretrain(recipe: Recipe, beside: Path, progress: Progress | None) -> None:
    """Train the recipe that a model begins with, if it begins with one that was not trained yet.

    Raises:
        KzooError: that one begins with another recipe itself.
    """
    name = recipe.model.pretrained
    if name is None or not name.endswith(RECIPE):
        return
    path = beside / name
    if (load_recipe(path).model.pretrained or "").endswith(RECIPE):
        raise KzooError(
            f"{path} begins with another recipe itself: train it first, and name a .keras file of its run's "
            "checkpoints."
        )
    run_before(path, progress, "The pretraining")
