"""A recipe's way from data to bundle to card."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kzoo.errors import KzooError, MissingDependencyError, did_you_mean
from kzoo.recipes.data.parts import Parts, amount, load_parts
from kzoo.recipes.directory import OnEpoch, Progress, RunDirectory, open_run, runs_home, write
from kzoo.recipes.environment import describe_environment, train_command
from kzoo.recipes.evaluation.scores import named_classes
from kzoo.recipes.publishing import check_shelf, publish_run
from kzoo.recipes.schema.config import STREAMED, Recipe, load_recipe
from kzoo.recipes.training.earlier import pretrain

if TYPE_CHECKING:
    from kzoo.models import TransformerModel
    from kzoo.recipes.training.distilling import Schooling
    from kzoo.recipes.training.repeating import Fitted, Trainer

# Training examples that an export is calibrated on.
_CALIBRATION = 128


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        directory: everything that the run used and made.
        bundle: the exported bundle, in the directory.
        scores: what the bundle scored on the test examples, by name, the recipe's metric first.
        resumed_after: how many epochs were finished when this call went on, 0 if it began the run.
        published: the folder that bundle and card were copied to, if they were.
    """

    directory: Path
    bundle: Path
    scores: dict[str, float]
    resumed_after: int = 0
    published: Path | None = None


def run(
    recipe_path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    publish: bool = False,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> RunResult:
    """Do what a recipe says: read the data, train, export, measure the bundle.

    The run's directory is `runs/NAME/DATE/` (`$KZOO_RUNS` says where else than `runs`). A run that was stopped in
    any way goes on after its last finished epoch, if recipe, overrides and data are the same.

    Args:
        recipe_path: the recipe's TOML file.
        overrides: changes to the recipe, each `section.field=value`.
        fresh: start another run, even if there is an unfinished one.
        publish: copy bundle, card and learning curve to the recipe's folder; of the newest run, also where that is
            finished.
        progress: called with a line of text at each step, Keras' own bar shown in between; silent without.
        on_epoch: called after each epoch with its number, the number of epochs and what was measured, in place
            of Keras' bar.

    Raises:
        KzooError: the recipe, its data or its model is wrong; the loss is no longer a number; the export failed.
        KeyboardInterrupt: passed on, after a word on how to go on; what is on disk is sound.
    """
    path = Path(recipe_path)
    recipe = load_recipe(path, overrides)
    _check_packages(recipe)
    from kzoo.recipes.evaluation.examining import translation_language

    language = translation_language(recipe)
    if publish:
        check_shelf(path.parent)
    # The model comes before there is a run directory, which a wrong one would leave behind.
    parts, model, schooling = _prepare(recipe, path.parent, progress)
    environment = describe_environment(train_command(path, overrides))
    directory = open_run(
        runs_home() / recipe.name,
        identity(recipe, parts),
        {"recipe": recipe.model_dump(mode="json"), "environment": environment},
        fresh,
        progress,
        finished_too=publish,
    )
    resumed_after = _say_place(recipe, directory)
    verbose = _verbosity(progress is None or on_epoch is not None)
    with _saying_what_stopped(recipe, directory):
        trainer = _trainer(recipe, parts, path.parent, directory, schooling, verbose, on_epoch)
        metrics = _train_and_export(model, trainer, recipe, parts, directory, language)
        if schooling is not None:
            metrics |= schooling.compare(model)
        if publish:
            publish_run(recipe, directory, metrics, path.parent)
            directory.say(f"Published in {path.parent}")
        directory.finish(metrics)
    return RunResult(
        directory.path, directory.bundle, metrics["scores"], resumed_after, path.parent if publish else None
    )


def _prepare(
    recipe: Recipe, beside: Path, progress: Progress | None
) -> tuple[Parts, TransformerModel, Schooling | None]:
    """Return data and model, and who trains the model if it is a teacher's student."""
    pretrain(recipe, beside, progress)
    parts = load_parts(recipe, beside)
    _check_metric(recipe, parts)
    if recipe.distillation is not None:
        parts, schooling = _with_teacher(recipe, parts, beside, progress)
        return parts, schooling.build(), schooling
    from kzoo.recipes.training.building import build_model
    from kzoo.recipes.training.without_labels import check_pretraining

    model = build_model(recipe, parts, beside)
    check_pretraining(model, recipe, beside)
    return parts, model, None


def _trainer(
    recipe: Recipe,
    parts: Parts,
    beside: Path,
    directory: RunDirectory,
    schooling: Schooling | None,
    verbose: int,
    on_epoch: OnEpoch | None,
) -> Schooling | Trainer:
    from kzoo.recipes.training.repeating import Trainer

    if schooling is not None:
        return schooling.begin(directory, verbose, on_epoch)
    return Trainer(recipe, parts, beside, directory, verbose, on_epoch)


def _say_place(recipe: Recipe, directory: RunDirectory) -> int:
    """Say where the run is, and return how many of its epochs are finished."""
    from kzoo.recipes.training.repeating import reached

    finished, place = reached(recipe, directory.path)
    if recipe.training.is_open_ended and RunDirectory.epochs_in(directory.path) > recipe.training.periods:
        raise KzooError(
            f"The run in {directory.path} is at {place} already: raise training.max_steps, or start again with "
            "--fresh."
        )
    directory.say(f"Run directory: {directory.path}")
    if finished:
        directory.say(f"Going on after {place}.")
    return finished


@contextlib.contextmanager
def _saying_what_stopped(recipe: Recipe, directory: RunDirectory) -> Iterator[None]:
    from kzoo.recipes.training.repeating import reached

    try:
        yield
    except KeyboardInterrupt:
        _, place = reached(recipe, directory.path)
        directory.say(f"Interrupted after {place}. The same command goes on from there.")
        raise
    except KzooError as error:
        directory.log(f"Stopped: {error}")
        raise


def _with_teacher(
    recipe: Recipe, parts: Parts, beside: Path, progress: Progress | None
) -> tuple[Parts, Schooling]:
    """Return the data, teacher and texts without labels among what it was checked by, and who trains the student."""
    from kzoo.recipes.training.distilling import Schooling
    from kzoo.recipes.training.teaching import checksums_of, find_teacher

    teacher = find_teacher(recipe, beside, progress)
    parts = replace(parts, checksums={**parts.checksums, **checksums_of(recipe, beside, teacher)})
    return parts, Schooling(recipe, parts, beside, teacher)


def _check_metric(recipe: Recipe, parts: Parts) -> None:
    """Refuse to be led by the F1 of a class that there is not."""
    labels = parts.labels or []
    for name in named_classes([recipe.metric]):
        if name not in labels:
            raise KzooError(
                f"evaluation.metric = {recipe.metric}: the data has no class '{name}'.{did_you_mean(name, labels)}"
            )


def identity(recipe: Recipe, parts: Parts) -> dict[str, Any]:
    """Return what makes two runs the same: how to train, and the data."""
    return {"training": _given(recipe), "data": parts.checksums}


def _given(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe says of the training: a run goes on when only words, scores or the bundle are to differ.

    The score that checkpoints are chosen by belongs to the training; how many updates there are to be does not, where
    no update depends on it. Defaults are left out, so that a run also goes on when a later kzoo knows more fields.
    """
    measured: Any = True if recipe.task == "seq2seq" else {"num_beams", "language", "show_texts"}
    beside: Any = {"description": True, "evaluation": measured, "export": True, "data": {"licence"}}
    if recipe.training.is_open_ended:
        beside["training"] = {"max_steps"}
    return recipe.model_dump(mode="json", exclude_defaults=True, exclude=beside)


def _train_and_export(
    model: TransformerModel,
    trainer: Schooling | Trainer,
    recipe: Recipe,
    parts: Parts,
    directory: RunDirectory,
    language: str | None,
) -> dict[str, Any]:
    from kzoo.recipes.card import draw_curve

    cut = _describe(model, recipe, parts, directory)
    if parts.cleaned is not None:
        directory.say(f"Training data: {parts.cleaned}.")
        write(directory.path / "cleaning.json", json.dumps(parts.cleaned.to_json(), indent=1) + "\n")
    fitted = trainer.fit(model)
    rows = fitted.run.history()
    draw_curve(rows, fitted.checkpoint, directory.curve)
    return {
        **_export(fitted, recipe, parts, directory, language),
        **fitted.metrics,
        **({"cut": cut} if cut else {}),
        **({"cleaned": str(parts.cleaned)} if parts.cleaned is not None else {}),
        "epoch": fitted.checkpoint,
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "parameters": fitted.model.count_params(),
        "examples": {name: amount(getattr(parts, name), recipe) for name in ("train", "validation", "test")},
    }


def _describe(
    model: TransformerModel, recipe: Recipe, parts: Parts, directory: RunDirectory
) -> dict[str, int]:
    """Say what is learnt from and what learns, and return how many texts of each part are cut."""
    from kzoo.recipes.data.texts import count_cut
    from kzoo.training import count_trainable

    for note in parts.notes:
        directory.say(note)
    trained = count_trainable(model)
    some = f", {trained:,} of which train" if trained < model.count_params() else ""
    size = f"{amount(parts.train, recipe):,} {recipe.unit}"
    directory.say(f"{recipe.model.title}: {model.count_params():,} parameters{some}, {size}.")
    tokenizer, length = model.tokenizer, model.max_length
    if tokenizer is None or length is None or recipe.task in STREAMED:
        return {}
    held = {"training": parts.train, "validation": parts.validation, "test": parts.test}
    counts = {name: count_cut(examples, recipe, tokenizer, length) for name, examples in held.items()}
    cut = {name: count for name, count in counts.items() if count}
    if cut:
        listed = ", ".join(f"{count:,} in the {name} data" for name, count in cut.items())
        directory.say(f"Texts of more than {length} tokens, which are cut: {listed}.")
    return cut


def _export(
    fitted: Fitted, recipe: Recipe, parts: Parts, directory: RunDirectory, language: str | None
) -> dict[str, Any]:
    """Make the bundle, and return what was measured on it."""
    from kzoo.export import to_bundle
    from kzoo.recipes.evaluation.examining import Examiner
    from kzoo.recipes.training.repeating import report_without_test

    wanted, measurable = recipe.export, len(parts.test) > 0
    examiner = Examiner(recipe, parts, language)
    report = to_bundle(
        fitted.model,
        directory.bundle,
        name=recipe.name,
        tolerance=wanted.tolerance,
        dtype=wanted.dtype,
        target=wanted.target,
        calibration=calibration_inputs(recipe, parts) if wanted.dtype == "int8_static" else None,
        metric=examiner if wanted.dtype != "float32" and measurable else None,
        max_drop=wanted.max_drop,
        explanations=wanted.explanations,
        progress=directory.log,
    )
    directory.say(f"Exported: {report}")
    measured = examiner.report(directory) if measurable else report_without_test(fitted, parts, directory)
    return {**measured, "largest_difference": report.largest_difference}


def calibration_inputs(recipe: Recipe, parts: Parts) -> list[Any]:
    """Return training examples that show which numbers flow through a model, as its bundle takes them."""
    inputs = list(parts.train.inputs[:_CALIBRATION])
    return [text for pair in inputs for text in pair] if recipe.task == "embedding" else inputs


def _check_packages(recipe: Recipe) -> None:
    """Name a missing package now rather than after the training.

    Raises:
        MissingDependencyError: naming it.
    """
    needed = ["keras", "sklearn", "matplotlib", "kzoo.export"]
    for module in [*needed, "sacrebleu", "sacremoses"] if recipe.task == "seq2seq" else needed:
        try:
            importlib.import_module(module)
        except MissingDependencyError:
            raise
        except ImportError as error:
            raise MissingDependencyError(
                f"Training by a recipe needs {error.name}: pip install 'kzoo[train,export]'."
            ) from error


def _verbosity(silent: bool) -> int:
    """Return Keras' `verbose`: a moving bar is for terminals, a file gets a line an epoch."""
    if silent:
        return 0
    return 1 if sys.stdout.isatty() else 2
