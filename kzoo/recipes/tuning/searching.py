"""Searching for better numbers of a recipe: trainings one after another, each with what the others taught."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError
from kzoo.recipes.data.parts import Parts, load_parts
from kzoo.recipes.directory import Progress, RunDirectory, open_run, runs_home, write
from kzoo.recipes.environment import describe_environment, train_command
from kzoo.recipes.running import identity
from kzoo.recipes.schema.config import Recipe, apply_overrides, load_recipe
from kzoo.recipes.training.building import build_model
from kzoo.recipes.training.earlier import pretrain
from kzoo.recipes.training.fitting import train
from kzoo.recipes.training.keeping import leading_column
from kzoo.recipes.training.without_labels import FOLDER as WITHOUT_LABELS
from kzoo.recipes.training.without_labels import learn_without_labels
from kzoo.recipes.tuning.plans import Plan, Span, Value, as_overrides, check_searchable, load_plan, to_toml

if TYPE_CHECKING:
    import optuna

# Trials with values by chance, before the others say where to look; and before one of them may be stopped.
_BY_CHANCE, _BEFORE_PRUNING = 6, 4
# Fewest finished trials that importances are told from.
_FEWEST = 4


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: from 1.
        values: of the fields that are searched.
        state: `"finished"`, `"stopped"` where it was worse than others on the way, or `"failed"`.
        scores: on the validation data, after each epoch or stretch of updates.
        score: the best of them, of a finished one.
        seconds: how long it trained.
        reason: why it failed.
    """

    number: int
    values: dict[str, Value]
    state: str
    scores: list[float]
    score: float | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        directory: where all of it is.
        metric: the score, on the validation data.
        lower_is_better: whether low ones are good.
        trials: all, in order.
        best: the one with the best score.
        compared_at: the last checkpoint that all trials reached.
        importances: how much of the differences between scores there comes from each field, by its name, together 1;
            nothing where there are too few trials to tell.
        recipe: the best one, which `kzoo train` takes.
        command: what trains the best one by the recipe that was searched.
    """

    directory: Path
    metric: str
    lower_is_better: bool
    trials: list[Trial]
    best: Trial
    compared_at: int
    importances: dict[str, float]
    recipe: Path
    command: str


class _Stopped(Exception):  # noqa: N818 # no error: the search's own word for it
    """Ends a training that is worse than others."""


@dataclass
class _Search:
    """A search on its way.

    Attributes:
        plan: what is tried.
        path: the recipe's file.
        overrides: its changes in all trials.
        base: the recipe with these.
        parts: its data.
        run: where all goes.
    """

    plan: Plan
    path: Path
    overrides: Sequence[str]
    base: Recipe
    parts: Parts
    run: RunDirectory
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        import optuna

        self.optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.distributions = {name: _distribution(given) for name, given in self.plan.fields.items()}
        self.study = optuna.create_study(
            direction="maximize", study_name=self.base.name, pruner=_pruner(self.plan, self.base)
        )
        self.column = leading_column(self.base)
        self.by_loss = False

    def go_on(self) -> None:
        """Do the next trial, or what is left of it."""
        number = len(self.trials) + 1
        part = self.run.part(f"trials/{number:03d}")
        known = part.result()
        if known is None:
            trial = self._ask(part.path / "values.json", number)
            twin = next((each for each in self.trials if each.values == trial.params), None)
            known = self._train(trial, part, number) if twin is None else self._repeat(trial, twin, number)
            part.finish(known)
        else:
            self._add(known)
        for folder in (part.path, part.path / WITHOUT_LABELS):
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        self.by_loss = self.by_loss or known["by_loss"]
        told = {name: value for name, value in known.items() if name != "by_loss"}
        self.trials.append(Trial(number, **told))

    def _ask(self, file: Path, number: int) -> optuna.Trial:
        """Return a trial with values; with those that it began with, if it was stopped."""
        # What is tried next depends on what came before and on this number, not on where a search was stopped.
        seed = int(np.random.SeedSequence((self.plan.seed, number)).generate_state(1)[0])
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=_BY_CHANCE)
        given = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if number == 1:
            given = given or self._own_values()
        if given:
            self.study.enqueue_trial(given)
        trial = self.study.ask(self.distributions)
        write(file, json.dumps(trial.params, indent=1) + "\n")
        return trial

    def _own_values(self) -> dict[str, Value]:
        """Return what the recipe says itself, of the fields that are searched and where that is among the values."""
        raw = apply_overrides(tomllib.loads(self.path.read_text(encoding="utf-8")), self.overrides)
        found: dict[str, Value] = {}
        for name, given in self.plan.fields.items():
            value: Any = raw
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(given, Span):
                number = isinstance(value, int if given.is_whole else int | float) and not isinstance(
                    value, bool
                )
                within = number and given.low <= value <= given.high
            else:
                within = any(value == each and type(value) is type(each) for each in given)
            if within:
                found[name] = value
        return found

    def _train(self, trial: optuna.Trial, part: RunDirectory, number: int) -> dict[str, Any]:
        """Train with a trial's values, and return what is kept of it."""
        values = dict(trial.params)
        self.run.say(f"Trial {number} of {self.plan.trials}: {shown(values)}")
        rows: list[dict[str, float]] = part.history()
        state, reason = "finished", ""

        def tell(epoch: int, epochs: int, row: dict[str, float]) -> None:
            if len(rows) < epoch:
                rows.append(row)
            trial.report(self._score(row), epoch)
            if epoch < epochs and trial.should_prune():
                raise _Stopped

        try:
            recipe = load_recipe(self.path, [*self.overrides, *as_overrides(values)])
            for row in list(rows):
                tell(int(row["epoch"]), recipe.training.periods, row)
            model = build_model(recipe, self.parts, self.path.parent)
            learn_without_labels(model, recipe, self.parts, part, self.path.parent, 0, None)
            train(model, recipe, self.parts, part, self.path.parent, 0, tell)
        except _Stopped:
            state = "stopped"
        except KzooError as error:
            state, reason = "failed", str(error)
        scores = [self._score(row) for row in rows]
        score = max(scores) if state == "finished" else None
        self.study.tell(trial, score, _state(self.optuna.trial.TrialState, state))
        self._say(number, state, scores, reason)
        return {
            "values": values,
            "state": state,
            "scores": scores,
            "score": score,
            "seconds": round(sum(row["seconds"] for row in rows), 3),
            "reason": reason,
            "by_loss": bool(rows) and self.column not in rows[0],
        }

    def _repeat(self, trial: optuna.Trial, twin: Trial, number: int) -> dict[str, Any]:
        """Return what is kept of a trial with the values of an earlier one, which would go the same way."""
        self.run.say(f"Trial {number} of {self.plan.trials}: the values of trial {twin.number} again")
        for epoch, score in enumerate(twin.scores, start=1):
            trial.report(score, epoch)
        self.study.tell(trial, twin.score, _state(self.optuna.trial.TrialState, twin.state))
        known = {name: value for name, value in vars(twin).items() if name != "number"}
        return {**known, "seconds": 0.0, "by_loss": self.by_loss}

    def _say(self, number: int, state: str, scores: list[float], reason: str) -> None:
        if state == "failed":
            self.run.say(f"Trial {number} failed: {reason}")
            return
        best = max((trial.score for trial in self.trials if trial.score is not None), default=-np.inf)
        word = {"stopped": "stopped, being worse than others"}.get(
            state, "the best so far" if max(scores) > best else f"the best so far {abs(best):.4f}"
        )
        self.run.say(f"Trial {number}: {abs(max(scores)):.4f} after {len(scores)} checkpoints; {word}.")

    def _score(self, row: dict[str, float]) -> float:
        """Return how good a checkpoint is, higher being better."""
        return row[self.column] if self.column in row else -row["val_loss"]

    def _add(self, known: dict[str, Any]) -> None:
        """Let the study know of a trial that an earlier call finished."""
        state = _state(self.optuna.trial.TrialState, known["state"])
        self.study.add_trial(
            self.optuna.create_trial(
                state=state,
                value=known["score"],
                params=known["values"],
                distributions=self.distributions,
                intermediate_values=dict(enumerate(known["scores"], start=1)),
            )
        )

    def best(self) -> Trial:
        """Return the best trial.

        Raises:
            KzooError: none was finished.
        """
        finished = [trial for trial in self.trials if trial.score is not None]
        if not finished:
            raise KzooError(
                f"No trial was finished: see {self.run.path}. The first one: {self.trials[0].reason}"
            )
        return max(finished, key=lambda trial: trial.score or 0.0)

    def importances(self) -> tuple[int, dict[str, float]]:
        """Return a checkpoint, and how much each field matters to the scores there, the most important first.

        It is the last one that all trials reached, those that were stopped early too.
        """
        trained = [trial for trial in self.trials if trial.scores]
        common = min((len(trial.scores) for trial in trained), default=0)
        scores = [max(trial.scores[:common]) for trial in trained]
        if len(trained) < _FEWEST or len({*scores}) == 1:
            return common, {}
        study = self.optuna.create_study(direction="maximize")
        for trial, score in zip(trained, scores, strict=True):
            study.add_trial(
                self.optuna.create_trial(value=score, params=trial.values, distributions=self.distributions)
            )
        evaluator = self.optuna.importance.FanovaImportanceEvaluator(seed=self.plan.seed)
        return common, dict(self.optuna.importance.get_param_importances(study, evaluator=evaluator))


def tune(
    plan_path: Path,
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress | None = None,
) -> Tuned:
    """Search for better numbers of a recipe, judged on its validation data; the test data is not looked at.

    All goes to `runs/NAME-tuning/DATE/` (`$KZOO_RUNS` says where else than `runs`). A search that was stopped in any
    way goes on in the epoch that it was in, and tries what it would have tried; one that is finished goes on when
    the file asks for more trials.

    Args:
        plan_path: the search's file, see `kzoo.recipes.tuning.plans.Plan`.
        overrides: changes to the recipe in all trials, each `section.field=value`.
        fresh: start another search.
        progress: called with a line of text at each step.

    Raises:
        KzooError: the file or its recipe is wrong, there is no validation data, or no trial could be finished.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"A search needs {error.name}: pip install 'kzoo[tune]'.") from error
    plan = load_plan(plan_path)
    path = plan_path.parent / plan.recipe
    base = load_recipe(path, overrides)
    check_searchable(base, plan)
    # A field that does not exist shows now, rather than in all trials.
    load_recipe(path, [*overrides, *as_overrides(plan.first())])
    pretrain(base, path.parent, progress)
    parts = load_parts(base, path.parent)
    if parts.validation is None:
        raise KzooError(
            "A search chooses on validation data: set data.validation or data.validation_share in the recipe."
        )
    environment = describe_environment(train_command(plan_path, overrides, "tune"))
    kept = {**identity(base, parts), "search": plan.model_dump(mode="json", exclude={"trials"})}
    run = open_run(runs_home() / f"{base.name}-tuning", kept, {"environment": environment}, fresh, progress)
    run.say(f"Directory of the search: {run.path}")
    search = _Search(plan, path, overrides, base, parts, run)
    while len(search.trials) < plan.trials:
        search.go_on()
    return _report(search, environment)


def shown(values: dict[str, Value]) -> str:
    """Return values in words.

    Example:
        >>> shown({"training.learning_rate": 0.00123456, "model.name": "bert_tiny"})
        'learning_rate 0.001235, name bert_tiny'
    """
    return ", ".join(
        f"{name.rpartition('.')[2]} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in values.items()
    )


def _report(search: _Search, environment: dict[str, Any]) -> Tuned:
    from kzoo.recipes.tuning.report import write_report

    best, by_loss = search.best(), search.by_loss
    sign = -1 if by_loss else 1
    trials = [
        dataclasses.replace(
            trial,
            score=None if trial.score is None else sign * trial.score,
            scores=[sign * score for score in trial.scores],
        )
        for trial in search.trials
    ]
    overrides = [*search.overrides, *as_overrides(best.values)]
    compared_at, importances = search.importances()
    found = Tuned(
        directory=search.run.path,
        metric="loss" if by_loss else search.column.removeprefix("val_"),
        lower_is_better=by_loss,
        trials=trials,
        best=trials[best.number - 1],
        compared_at=compared_at,
        importances=importances,
        recipe=search.run.path / "best.toml",
        command=train_command(search.path, overrides),
    )
    _write_recipe(search, overrides, found)
    write_report(found, search.plan, environment)
    return found


def _write_recipe(search: _Search, overrides: Sequence[str], found: Tuned) -> None:
    """Write the best recipe, with data that lay beside the recipe by its full path."""
    raw = apply_overrides(tomllib.loads(search.path.read_text(encoding="utf-8")), overrides)
    beside = {
        name: str((search.path.parent / name).resolve())
        for name in search.parts.checksums
        if (search.path.parent / name).exists()
    }

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: resolved(each) for name, each in value.items()}
        if isinstance(value, list):
            return [resolved(each) for each in value]
        return beside.get(value, value) if isinstance(value, str) else value

    judged = f"by {found.metric} on the validation data"
    head = f"# The best of {len(found.trials)} trials {judged}: {found.best.score:.4f}.\n"
    write(found.recipe, head + to_toml(resolved(raw)))


def _distribution(given: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(given, Span):
        return CategoricalDistribution(given)
    kind = IntDistribution if given.is_whole else FloatDistribution
    return kind(given.low, given.high, log=given.log)


def _pruner(plan: Plan, recipe: Recipe) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if plan.prune == "none":
        return NopPruner()
    if plan.prune == "hyperband":
        return HyperbandPruner(max_resource=recipe.training.periods)
    # Not before a quarter of the way: the first steps tell who is quick, and little of who is good.
    return MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=max(2, recipe.training.periods // 4))


def _state(states: Any, state: str) -> Any:
    return {"finished": states.COMPLETE, "stopped": states.PRUNED, "failed": states.FAIL}[state]
