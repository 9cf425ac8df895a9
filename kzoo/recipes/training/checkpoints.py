"""Where that lies which a recipe goes on from: a checkpoint, a model, or the run of another recipe."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from kzoo.data import locate
from kzoo.errors import KzooError, MissingDependencyError

_PACKAGE = "package:"
_MODULE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


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
    if name.startswith(_PACKAGE):
        return _in_package(name.removeprefix(_PACKAGE))
    from kzoo.models.hub import find_checkpoint

    try:
        return locate(name, beside)
    except KzooError as missing:
        try:
            return find_checkpoint(name)
        except MissingDependencyError:
            raise
        except KzooError as error:
            raise KzooError(f"model.pretrained: {error} As a folder: {missing}") from None


def _in_package(module: str) -> Path:
    if _MODULE.fullmatch(module) is None:
        raise KzooError(f"model.pretrained = 'package:{module}': a package is named as in `import NAME`.")
    # Of a name without dots, this looks only where it is.
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise KzooError(
            f"model.pretrained = 'package:{module}': there is no such package here. Install the one that carries "
            f"the checkpoint; pip often knows it as '{module.replace('_', '-')}'."
        )
    folders = {
        file.parent for root in found.submodule_search_locations for file in Path(root).rglob("*.safetensors")
    }
    whole = sorted(folder for folder in folders if (folder / "config.json").is_file())
    if len(whole) != 1:
        listed = ", ".join(map(str, whole)) or "none"
        raise KzooError(
            f"model.pretrained = 'package:{module}': the package holds {len(whole)} folders with config.json and "
            f"safetensors files ({listed}). One is needed: give its path."
        )
    return whole[0]
