"""The teacher that a recipe names: made or found, opened, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo.data import locate
from kzoo.errors import KzooError
from kzoo.models import TransformerModel, from_pretrained, load
from kzoo.recipes.data.parts import checksum
from kzoo.recipes.directory import Progress, RunDirectory
from kzoo.recipes.schema.config import Recipe, load_recipe
from kzoo.recipes.training.checkpoints import find_pretrained
from kzoo.recipes.training.earlier import run_before
from kzoo.recipes.training.fitting import average_checkpoints
from kzoo.runtime import Bundle
from kzoo.runtime import load as load_bundle
from kzoo.runtime.manifest import MANIFEST_FILE
from kzoo.training import Distillation, merge_lora


@dataclass(frozen=True)
class Teacher:
    """A teacher, ready to be asked.

    Attributes:
        source: a Keras model, or a pipeline.
        checksum: sha256 of what it was made from.
        bundle: where its bundle lies, if it has one.
    """

    source: Any
    checksum: str
    bundle: Path | None = None

    @property
    def model(self) -> TransformerModel | None:
        """The Keras model, unless only a bundle is there."""
        return self.source if isinstance(self.source, TransformerModel) else None


def find_teacher(recipe: Recipe, beside: Path, progress: Progress | None = None) -> Teacher:
    """Return the teacher that a recipe names; one that is a recipe is trained first, unless it was before.

    Args:
        recipe: with a section `distillation`.
        beside: the folder that it lies in.
        progress: as for `kzoo.recipes.run`.

    Raises:
        KzooError: there is no such teacher, or it does another task.
    """
    name = recipe.distillation.teacher if recipe.distillation is not None else ""
    if name.endswith(".toml"):
        teacher = _from_recipe(beside / name, progress)
    elif name.endswith(".keras"):
        file = locate(name, beside)
        teacher = Teacher(load(file), checksum(file))
    else:
        teacher = _from_folder(name, recipe, beside)
    if teacher.source.task != recipe.task:
        raise KzooError(
            f"distillation.teacher = '{name}' is for the task '{teacher.source.task}', the data for '{recipe.task}'."
        )
    return teacher


def checksums_of(recipe: Recipe, beside: Path, teacher: Teacher) -> dict[str, str]:
    """Return the sha256, by name, of the teacher and of the texts without labels."""
    section = recipe.distillation
    if section is None:
        return {}
    files = {name: checksum(locate(name, beside)) for name in section.unlabelled}
    return {**files, f"teacher {section.teacher}": teacher.checksum}


def _from_folder(name: str, recipe: Recipe, beside: Path) -> Teacher:
    """Return a bundle, or for embeddings a published checkpoint, as teacher."""
    folder = None if name.startswith("package:") else locate(name, beside)
    if folder is not None and (folder / MANIFEST_FILE).is_file():
        return Teacher(load_bundle(folder), checksum(folder / MANIFEST_FILE), folder)
    if recipe.task != "embedding":
        raise KzooError(
            f"distillation.teacher = '{name}': a checkpoint has no head for this data. Name a recipe beside this "
            "one, a .keras file, or a bundle."
        )
    folder = find_pretrained(name, beside)
    return Teacher(from_pretrained(folder, task="embedding"), checksum(folder))


def _from_recipe(path: Path, progress: Progress | None) -> Teacher:
    recipe = load_recipe(path)
    if recipe.distillation is not None:
        raise KzooError(f"{path} has a teacher of its own: train it first, and name its bundle.")
    found = run_before(path, progress, "The teacher")
    bundle = Bundle.open(found / "bundle").folder
    return Teacher(trained_model(recipe, found), checksum(bundle / MANIFEST_FILE), bundle)


def trained_model(recipe: Recipe, path: Path) -> TransformerModel:
    """Return the model that a finished run exported.

    Args:
        recipe: what the run was made by.
        path: its directory.
    """
    metrics = RunDirectory.result_in(path) or {}
    seeds = metrics.get("seeds")
    folder = path / seeds["exported"].replace(" ", "-") if seeds else path
    last = metrics["epoch"]
    first = max(last - recipe.training.average, 0) + 1 if recipe.training.average > 1 else last
    files = [RunDirectory.checkpoint_in(folder, epoch) for epoch in range(first, last + 1)]
    opened: Any = load(files[-1])
    model = opened.student if isinstance(opened, Distillation) else opened
    if len(files) > 1:
        average_checkpoints(model, files)
    if recipe.lora is not None:
        merge_lora(model)
    return model
