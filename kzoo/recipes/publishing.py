"""What goes from a run to the shelf: the bundle, its pictures and its card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError
from kzoo.recipes.card import card
from kzoo.recipes.directory import RunDirectory, write
from kzoo.recipes.schema.config import Recipe
from kzoo.replace import refuse_other_contents, replacing
from kzoo.runtime.manifest import MANIFEST_FILE

_SHIPPED = Path(__file__).parent


def check_shelf(shelf: Path) -> None:
    """Refuse, before hours of training, a folder that cannot be published to.

    Raises:
        KzooError: it is a part of kzoo, cannot be written to, or holds something else where the bundle goes.
    """
    if shelf.resolve() == _SHIPPED:
        raise KzooError("This recipe is part of kzoo: copy it into a folder of its own to publish there.")
    if not os.access(shelf, os.W_OK):
        raise KzooError(f"Cannot publish: {shelf} cannot be written to.")
    refuse_other_contents(shelf / "bundle", MANIFEST_FILE)


def publish_run(recipe: Recipe, directory: RunDirectory, metrics: dict[str, Any], shelf: Path) -> None:
    """Copy a run's bundle and pictures to a folder, and write its card there.

    Args:
        recipe: the recipe.
        directory: the run.
        metrics: what `metrics.json` is to hold.
        shelf: the folder.
    """
    record = directory.read()
    with replacing(shelf / "bundle") as folder:
        for file in directory.bundle.iterdir():
            shutil.copyfile(file, folder / file.name)
    for name in (directory.curve.name, *metrics["pictures"]):
        write(shelf / name, (directory.path / name).read_bytes())
    size = sum(file.stat().st_size for file in directory.bundle.iterdir())
    write(shelf / "README.md", card(recipe, metrics, record["data"], record["environment"], size))
