"""Where that lies which a recipe goes on from: a checkpoint, a model, or the run of another recipe."""

from __future__ import annotations

from pathlib import Path

from kzoo.data import locate
from kzoo.errors import KzooError, MissingDependencyError

# What the names of models and recipes end in, of which the zoo's own trainings make something to go on from.
MODEL, RECIPE = ".keras", ".toml"


def find_pretrained(name: str, beside: Path) -> Path:
    """Return a checkpoint's folder, a model's file, or the bundle of the run that a recipe was trained in.

    Args:
        name: a folder or a `.keras` file, found as data is; a recipe beside the one that names it; `package:MODULE`,
            whose folder is found without running its code; or a name on the Hugging Face hub, from where it is
            downloaded once.
        beside: the folder of the recipe that names it.

    Raises:
        KzooError: it is nowhere, the recipe has no finished run, or a package holds none, or several.
    """
    if name.endswith(RECIPE):
        from kzoo.recipes.training.earlier import find_run

        run = find_run(beside / name)
        if run is None:
            raise KzooError(f"model.pretrained = '{name}' was not trained yet: `kzoo train {beside / name}`.")
        return run / "bundle"
    if name.endswith(MODEL):
        return locate(name, beside)
    from kzoo.models.sources import PACKAGE, find_checkpoint

    try:
        if name.startswith(PACKAGE):
            return find_checkpoint(name)
    except KzooError as error:
        raise KzooError(f"model.pretrained = {error}") from None
    try:
        return locate(name, beside)
    except KzooError as missing:
        try:
            return find_checkpoint(name)
        except MissingDependencyError:
            raise
        except KzooError as error:
            raise KzooError(f"model.pretrained: {error} As a folder: {missing}") from None
