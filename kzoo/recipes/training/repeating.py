"""Several trainings by one recipe: with several seeds, or each on a share of the data; and what came of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kzoo.data import folds
from kzoo.models import TransformerModel
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.evaluation.examining import Examiner, keep_scores
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.training.building import build_model
from kzoo.recipes.training.fitting import train
from kzoo.recipes.training.rehearsal import rehearse
from kzoo.recipes.training.without_labels import FOLDER as WITHOUT_LABELS
from kzoo.recipes.training.without_labels import learn_without_labels
from kzoo.runtime import load


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Attributes:
        model: with the weights that are to be exported.
        run: where its checkpoints and rows are.
        recipe: what it was trained by, with its own seed.
        checkpoint: the one that was chosen, from 1.
        metrics: `seeds` or `folds`, what several trainings scored, if there were several.
    """

    model: TransformerModel
    run: RunDirectory
    recipe: Recipe
    checkpoint: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class _Trial:
    """One training of several, in a folder of the run's."""

    name: str
    recipe: Recipe
    parts: Parts

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "-")


class Trainer:
    """Trains as often as a recipe says, and goes on where it was stopped.

    Args:
        recipe: the recipe.
        parts: its data.
        beside: the recipe's folder.
        run: where all goes; what is trained several times has folders in it.
        verbose: as in `keras.Model.fit`.
        on_epoch: called after each epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        beside: Path,
        run: RunDirectory,
        verbose: int,
        on_epoch: OnEpoch | None,
    ) -> None:
        self._recipe, self._parts, self._beside, self._run = recipe, parts, beside, run
        self._verbose, self._on_epoch = verbose, on_epoch

    def fit(self, model: TransformerModel) -> Fitted:
        """Train, and return the model that is to be exported.

        Args:
            model: built by the recipe; what is trained, if there is one training.
        """
        training = self._recipe.training
        if training.seeds is not None:
            return self._best_of_seeds()
        metrics = (
            {"folds": _summary(self._try_all(_folds(self._recipe, self._parts)))} if training.folds else {}
        )
        checkpoint = self._train(model, _Trial("", self._recipe, self._parts), self._run)
        return Fitted(model, self._run, self._recipe, checkpoint, metrics)

    def _best_of_seeds(self) -> Fitted:
        trials = _seeds(self._recipe, self._parts)
        results = self._try_all(trials)
        best = max(trials, key=lambda trial: results[trial.name]["validation"])
        self._run.say(f"Best on the validation data: {best.name}.")
        model, run = build_model(best.recipe, best.parts, self._beside), self._run.part(best.folder)
        metrics = {"seeds": {**_summary(results), "exported": best.name}}
        return Fitted(model, run, best.recipe, self._train(model, best, run), metrics)

    def _try_all(self, trials: Sequence[_Trial]) -> dict[str, dict[str, float]]:
        """Return what each training scored, after those that are not finished."""
        results = {}
        for trial in trials:
            run = self._run.part(trial.folder)
            known = run.result()
            if known is None:
                model = build_model(trial.recipe, trial.parts, self._beside)
                self._train(model, trial, run)
                known = _scores(model, trial, run)
                run.finish(known)
            metric = self._recipe.metric
            self._run.say(f"{trial.name[0].upper()}{trial.name[1:]}: {metric} {known[metric]:.4g}.")
            results[trial.name] = known
        return results

    def _train(self, model: TransformerModel, trial: _Trial, run: RunDirectory) -> int:
        common = (model, trial.recipe, trial.parts, run, self._beside, self._verbose, self._on_epoch)
        learn_without_labels(*common)
        return train(*common)


def reached(recipe: Recipe, path: Path) -> tuple[int, str]:
    """Return how many epochs of a run are finished, and in words how far it is.

    Args:
        recipe: the recipe.
        path: the run's directory.
    """
    done, place = 0, recipe.training.place(0)
    for name in [*_names(recipe), ""]:
        folder = path / name.replace(" ", "-") if name else path
        epochs = RunDirectory.epochs_in(folder)
        if epochs:
            done += epochs
            place = recipe.training.place(epochs) + (f" with {name}" if name else "")
    before = RunDirectory.epochs_in(path / WITHOUT_LABELS)
    if before and not done and recipe.pretraining is not None:
        return before, f"epoch {before} of {recipe.pretraining.epochs} of the pretraining"
    return done, place


def report_without_test(fitted: Fitted, parts: Parts, run: RunDirectory) -> dict[str, Any]:
    """Return what belongs into `metrics.json` where only the folds measured; thresholds go into the bundle.

    Args:
        fitted: what was exported.
        parts: the data.
        run: where the bundle is.
    """
    if parts.validation is not None:
        examiner = Examiner(fitted.recipe, replace(parts, test=parts.validation))
        keep_scores(run.bundle, {}, examiner.ask(load(run.bundle)))
    scores = fitted.metrics["folds"]["mean"]
    listed = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    run.say(f"Mean of {len(fitted.metrics['folds']['runs'])} folds: {listed}.")
    return {"scores": scores, "margins": {}, "signatures": {}, "num_beams": None, "pictures": {}}


def _names(recipe: Recipe) -> list[str]:
    training = recipe.training
    if training.seeds is not None:
        return [f"seed {seed}" for seed in training.seeds]
    return [f"fold {number}" for number in range(1, 1 + (training.folds or 0))]


def _seeds(recipe: Recipe, parts: Parts) -> list[_Trial]:
    trainings = [
        recipe.training.model_copy(update={"seed": seed, "seeds": None})
        for seed in recipe.training.seeds or ()
    ]
    names = zip(_names(recipe), trainings, strict=True)
    return [_Trial(name, recipe.model_copy(update={"training": training}), parts) for name, training in names]


def _folds(recipe: Recipe, parts: Parts) -> list[_Trial]:
    names = _names(recipe)
    each = zip(names, folds(parts.train, len(names)), strict=True)
    return [_Trial(name, recipe, replace(parts, train=rest, test=held)) for name, (rest, held) in each]


def _scores(model: TransformerModel, trial: _Trial, run: RunDirectory) -> dict[str, float]:
    """Return a trained model's scores on the test data, and its leading one on the validation data."""
    recipe, parts, pipeline = trial.recipe, trial.parts, rehearse(model, run.path)
    measured = Examiner(recipe, parts).ask(pipeline).scores(parts.test.targets, resamples=0)
    scores = {name: measured[name].value for name in (recipe.metric, *measured)}
    if parts.validation is not None:
        scores["validation"] = Examiner(recipe, replace(parts, test=parts.validation))(pipeline)
    return scores


def _summary(results: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the scores of all trainings, their means, and their sample standard deviations."""
    columns = {name: [scores[name] for scores in results.values()] for name in next(iter(results.values()))}
    return {
        "runs": {name: dict(scores) for name, scores in results.items()},
        "mean": {name: statistics.fmean(values) for name, values in columns.items() if name != "validation"},
        "spread": {
            name: statistics.stdev(values) for name, values in columns.items() if name != "validation"
        },
    }
