"""What is kept of a search: its table, and pictures of which values did well and which fields matter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo.recipes.directory import write
from kzoo.recipes.evaluation.pictures import save
from kzoo.recipes.evaluation.showing import markdown_table
from kzoo.recipes.tuning.plans import Plan, Span, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kzoo.recipes.tuning.searching import Trial, Tuned

PARALLEL, IMPORTANCES = "parallel.png", "importances.png"
# Of a field with a range, how many places of its axis are labelled.
_TICKS = 5


def write_report(found: Tuned, plan: Plan, environment: Mapping[str, Any]) -> None:
    """Write `tuning.json`, `tuning.md` and the pictures into the search's directory.

    Args:
        found: the search.
        plan: what it tried.
        environment: command, date and machine, as `describe_environment` gives them.
    """
    folder = found.directory
    told = {**dataclasses.asdict(found), "environment": environment}
    write(folder / "tuning.json", json.dumps(told, indent=1, default=str) + "\n")
    save(parallel_coordinates(found, plan), folder / PARALLEL)
    pictures = [f"![Values of all trials, by score]({PARALLEL})"]
    if found.importances:
        save(importance_bars(found.importances, found.compared_at), folder / IMPORTANCES)
        pictures.append(f"![Importance of the fields]({IMPORTANCES})")
    heads, rows = table(found)
    states = ", ".join(
        f"{sum(trial.state == state for trial in found.trials)} {state}"
        for state in ("finished", "stopped", "failed")
    )
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    seconds = sum(trial.seconds for trial in found.trials)
    text = [
        f"# {found.metric} on the validation data",
        f"{len(found.trials)} trials: {states}; {seconds:,.0f} s of training. A trial that was stopped shows the "
        "best score on its way.",
        markdown_table(heads, rows, len(heads) - 1),
        f"The best: `{found.command}`",
        *pictures,
        f"`{environment['command']}`, on {environment['started'][:10]}, {environment['hardware']}, with {versions}.",
    ]
    write(folder / "tuning.md", "\n\n".join(text) + "\n")


def table(found: Tuned) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of a table of all trials, the best first, those that failed last."""

    def rank(trial: Trial) -> tuple[bool, bool, float]:
        best = best_of(trial, found)
        return trial.state == "failed", trial.score is None, best if found.lower_is_better else -best

    fields = [name.rpartition(".")[2] for name in found.best.values]
    rows = [
        [
            f"{trial.number}{', ' + trial.state if trial.state != 'finished' else ''}",
            *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.values.values()),
            str(len(trial.scores)),
            f"{best_of(trial, found):.4f}" if trial.scores else "",
        ]
        for trial in sorted(found.trials, key=rank)
    ]
    return ["trial", *fields, "checkpoints", found.metric], rows


def best_of(trial: Trial, found: Tuned) -> float:
    """Return the best score of a trial's checkpoints; 0 where there is none."""
    return (min if found.lower_is_better else max)(trial.scores, default=0.0)


def parallel_coordinates(found: Tuned, plan: Plan) -> Figure:
    """Draw a line through the values of each trial, coloured by its score, which is the last axis."""
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    tried = [trial for trial in found.trials if trial.scores]
    scores = [best_of(trial, found) for trial in tried]
    low, high = _score_bounds(found)
    columns = [
        *(_Axis(name, given) for name, given in plan.fields.items()),
        _Axis(found.metric, Span(low=low, high=high)),
    ]
    figure = Figure(figsize=(1.9 * len(columns) + 1.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    import matplotlib

    shades, norm = matplotlib.colormaps["viridis"], Normalize(low, high)
    best = found.trials.index(found.best)
    # The better ones on top.
    for place in sorted(
        range(len(tried)), key=lambda place: -scores[place] if found.lower_is_better else scores[place]
    ):
        trial, score = tried[place], float(np.clip(scores[place], low, high))
        heights = [
            axis.height(value) for axis, value in zip(columns, [*trial.values.values(), score], strict=True)
        ]
        is_best, is_whole = trial.number == best + 1, trial.state == "finished"
        shade = norm(score)
        axes.plot(
            range(len(columns)),
            heights,
            color=shades(1 - shade if found.lower_is_better else shade) if is_whole else "0.65",
            linewidth=2.6 if is_best else 1.1,
            linestyle="-" if is_whole else ":",
            alpha=1 if is_best else 0.75,
        )
    for place, column in enumerate(columns):
        _draw_axis(axes, place, column)
    axes.set_xticks(range(len(columns)), [column.title for column in columns])
    axes.set(yticks=[], ylim=(-0.05, 1.05), xlim=(-0.3, len(columns) - 0.4))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(axis="x", length=0)
    figure.suptitle("thick: the best; dotted: stopped early", fontsize="small", color="0.4")
    return figure


def importance_bars(importances: Mapping[str, float], checkpoint: int) -> Figure:
    """Draw how much of the differences between scores comes from each field, the most important on top.

    Args:
        importances: by field.
        checkpoint: which one's scores.
    """
    from matplotlib.figure import Figure

    names = list(importances)[::-1]
    figure = Figure(figsize=(6.0, 0.36 * len(names) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    values = [importances[name] for name in names]
    axes.barh(range(len(names)), values, height=0.65, color="C0")
    axes.set_yticks(range(len(names)), names)
    for place, value in enumerate(values):
        axes.text(value + 0.01, place, f"{value:.0%}", va="center", fontsize="small")
    axes.set(
        xlabel=f"share of the differences between scores at checkpoint {checkpoint}",
        xlim=(0, 1.1 * max(values) + 0.02),
    )
    return figure


class _Axis:
    """One of the parallel axes: where on it, from 0 to 1, a value stands."""

    def __init__(self, name: str, given: Span | Sequence[Value]) -> None:
        self.title, self.given = name.replace(".", "\n"), given

    def height(self, value: Value) -> float:
        if not isinstance(self.given, Span):
            # By type too: True is no 1 here.
            keys = [(type(each), each) for each in self.given]
            return keys.index((type(value), value)) / (len(keys) - 1)
        low, high, place = (float(each) for each in (self.given.low, self.given.high, value))
        if self.given.log:
            low, high, place = np.log([low, high, place])
        return float((place - low) / (high - low))

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights, and what stands beside them."""
        if not isinstance(self.given, Span):
            return [(self.height(each), str(each)) for each in self.given]
        spread = np.geomspace if self.given.log else np.linspace
        values = spread(self.given.low, self.given.high, _TICKS).tolist()
        if self.given.is_whole:
            values = sorted({round(value) for value in values})
        return [
            (self.height(value), f"{value:,}" if self.given.is_whole else f"{value:.3g}") for value in values
        ]


def _draw_axis(axes: Axes, place: int, column: _Axis) -> None:
    axes.plot([place, place], [0, 1], color="0.3", linewidth=0.9, zorder=0.5)
    for height, text in column.ticks():
        axes.plot([place - 0.02, place + 0.02], [height, height], color="0.3", linewidth=0.9, zorder=0.5)
        # On white, since lines run below it.
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        axes.text(place - 0.05, height, text, ha="right", va="center", fontsize="small", bbox=box)


def _score_bounds(found: Tuned) -> tuple[float, float]:
    """Return from where to where scores are told apart: the worst of those finished, and the best of all."""
    finished = [trial.score for trial in found.trials if trial.score is not None]
    shown = [*finished, *(best_of(trial, found) for trial in found.trials if trial.state == "stopped")]
    low, high = (min(finished), max(shown)) if not found.lower_is_better else (min(shown), max(finished))
    return (low, high) if low < high else (low - 0.01, low + 0.01)
