"""The Keras model that a bundle came from, with the recipe and the data that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError
from kzoo.models import TransformerModel, load
from kzoo.recipes.data.parts import Parts, load_parts
from kzoo.recipes.directory import RunDirectory, runs_home, was_made_by
from kzoo.recipes.evaluation.examining import translation_language
from kzoo.recipes.running import identity
from kzoo.recipes.schema.config import Recipe, load_recipe
from kzoo.recipes.training.teaching import trained_model
from kzoo.runtime import Bundle
from kzoo.runtime.manifest import MANIFEST_FILE
from kzoo.training import Distillation


@dataclass(frozen=True)
class Origin:
    """A trained model, and what it was made by.

    Attributes:
        model: in Keras, with float32 weights.
        recipe: the recipe.
        parts: its data.
        language: what translations are in, see `kzoo.recipes.evaluation.examining.answers`.
    """

    model: TransformerModel
    recipe: Recipe
    parts: Parts
    language: str | None = None


def find_origin(path: Path, recipe_path: Path | None = None, overrides: Sequence[str] = ()) -> Origin:
    """Return what a bundle, a run's directory or a `.keras` file came from.

    Args:
        path: the bundle, the directory or the file. A bundle's run is the one around it, or the one below
            `$KZOO_RUNS` that its copy came from.
        recipe_path: the recipe; `recipe.toml` beside the bundle unless given.
        overrides: changes to the recipe, as the run was made with them.

    Raises:
        KzooError: there is no such recipe or run, the run was made by another one, or there is nothing to test on.
    """
    if recipe_path is None:
        recipe_path = path.absolute().parent / "recipe.toml"
        if not recipe_path.is_file():
            raise KzooError(f"Say which recipe '{path}' was made by, for its test data: --recipe RECIPE.")
    recipe = load_recipe(recipe_path, overrides)
    parts = load_parts(recipe, recipe_path.parent)
    if not len(parts.test):
        raise KzooError("The recipe has no test data: its scores come from folds of the training data.")
    model = _saved_model(path) if path.suffix == ".keras" else _model_of_run(path, recipe, parts)
    if model.task != recipe.task:
        raise KzooError(f"'{path}' is for the task '{model.task}', and {recipe_path} for '{recipe.task}'.")
    if {*(model.labels or ())} != {*(parts.labels or ())}:
        raise KzooError(f"'{path}' has other classes than the data of {recipe_path}.")
    return Origin(model, recipe, parts, translation_language(recipe))


def _saved_model(path: Path) -> TransformerModel:
    opened: Any = load(path)
    model = opened.student if isinstance(opened, Distillation) else opened
    if not isinstance(model, TransformerModel):
        raise KzooError(f"'{path}' is none of the zoo's models, which alone make bundles.")
    return model


def _model_of_run(path: Path, recipe: Recipe, parts: Parts) -> TransformerModel:
    run = _run_of(path, recipe)
    if RunDirectory.result_in(run) is None:
        raise KzooError(f"The run in {run} is not finished: `kzoo train` goes on with it.")
    if not was_made_by(run, identity(recipe, parts)):
        raise KzooError(
            f"The run in {run} was made by another recipe, or with other data, and may have learnt from these test "
            "examples. What was changed by --set for its training is to be changed here too."
        )
    return trained_model(recipe, run)


def _run_of(path: Path, recipe: Recipe) -> Path:
    """Return the directory of the run that a path is, lies in, or is a copy from."""
    for folder in (path, path.absolute().parent):
        if (folder / "run.json").is_file():
            return folder
    manifest = Bundle.open(path).folder / MANIFEST_FILE
    home = runs_home() / recipe.name
    for run in sorted(home.iterdir(), reverse=True) if home.is_dir() else ():
        kept = run / "bundle" / MANIFEST_FILE
        if kept.is_file() and kept.read_bytes() == manifest.read_bytes():
            return run
    raise KzooError(
        f"'{path}' came from no run in {home}, and a bundle's own graphs are finished: what they lost to rounding is "
        "not in them. Give the run's directory, or the .keras file that it was exported from, with --recipe; "
        "$KZOO_RUNS says where runs lie."
    )
