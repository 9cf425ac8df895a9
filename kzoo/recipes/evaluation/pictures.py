"""Pictures of what a bundle answers to its test data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kzoo.recipes.directory import write
from kzoo.recipes.evaluation.answers import Answers, Classes, LabelSets, Numbers, WordLabels
from kzoo.recipes.evaluation.scores import MOST_RANKED, Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    # With their captions, by the file's name.
    Figures = dict[str, tuple[str, Figure]]

CONFUSION, CURVES, CALIBRATION, CLASSES, SCATTER = (
    f"{name}.png" for name in ("confusion", "curves", "calibration", "classes", "scatter")
)
# More classes than these make a picture that nobody can read: then those come first that need looking at.
_MOST_IN_MATRIX, _MOST_BARS, _MOST_LINES = 30, 40, 8
_MOST_COUNTED, _MOST_POINTS = 12, 1000
# Most characters of a name.
_SHORT = 22


def draw_pictures(found: Answers, expected: Sequence[Any], folder: Path) -> dict[str, str]:
    """Draw what there is to see of some answers, as PNG files.

    Args:
        found: the answers.
        expected: what should have come out.
        folder: where the files go.

    Returns:
        What each picture shows, by the file's name.
    """
    captions = {}
    for name, (caption, figure) in _figures(found, expected).items():
        save(figure, folder / name)
        captions[name] = caption
    return captions


def save(figure: Figure, path: Path) -> None:
    """Write a picture as a PNG file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write(path, picture.getvalue())


@singledispatch
def _figures(found: Answers, expected: Sequence[Any]) -> Figures:
    """Return the pictures that there are of a kind of answers."""
    return {}


@_figures.register(Classes)
def _figures_of_classes(found: Classes, expected: Sequence[Any]) -> Figures:
    details = found.details(expected)
    pictures = {
        CONFUSION: ("Confusion matrix", confusion_matrix(details["confusion"], found.labels)),
        **_of_probabilities(found.probabilities, found.right(expected), found.labels, found.bins(expected)),
    }
    if len(found.labels) > 2:
        pictures[CLASSES] = ("F1 of each class", class_bars(details["classes"]))
    return pictures


@_figures.register(LabelSets)
def _figures_of_labels(found: LabelSets, expected: Sequence[Any]) -> Figures:
    return {
        CLASSES: ("F1 of each label", class_bars(found.details(expected)["classes"])),
        **_of_probabilities(found.probabilities, found.right(expected), found.labels, found.bins(expected)),
    }


@_figures.register(WordLabels)
def _figures_of_words(found: WordLabels, expected: Sequence[Any]) -> Figures:
    classes = found.details(expected)["classes"]
    return {CLASSES: ("F1 of each kind of span", class_bars(classes))} if classes else {}


@_figures.register(Numbers)
def _figures_of_numbers(found: Numbers, expected: Sequence[Any]) -> Figures:
    return {SCATTER: ("What was found, by what is right", scatter(found.found, expected, found.name))}


def _of_probabilities(
    probabilities: np.ndarray, right: np.ndarray, labels: Sequence[str], bins: Sequence[Bin]
) -> Figures:
    both = [place for place in range(len(labels)) if 0 < right[:, place].sum() < len(right)]
    pictures: Figures = {CALIBRATION: ("Calibration", reliability(bins))}
    if 0 < len(both) <= MOST_RANKED:
        names = [labels[place] for place in both]
        pictures[CURVES] = (
            "ROC and precision-recall curves",
            curves(probabilities[:, both], right[:, both], names),
        )
    return pictures


def confusion_matrix(table: dict[str, dict[str, int]], labels: Sequence[str]) -> Figure:
    """Draw which classes are taken for which.

    Args:
        table: how often each right class was answered by each class.
        labels: all classes; of more than 30 those are drawn that have most to do with errors.
    """
    wrong = dict.fromkeys(labels, 0)
    for right, row in table.items():
        for answer, count in row.items():
            for name in (right, answer) if right != answer else ():
                wrong[name] += count
    worst = sorted(labels, key=lambda name: -wrong[name])[:_MOST_IN_MATRIX]
    shown = [name for name in labels if name in set(worst)]
    counts = np.array([[table.get(right, {}).get(answer, 0) for answer in shown] for right in shown])
    totals = np.array([sum(table.get(right, {}).values()) for right in shown])[:, None]
    shares = counts / np.maximum(totals, 1)
    side = max(3.2, 0.62 * len(shown)) if len(shown) <= _MOST_COUNTED else 0.33 * len(shown)
    figure = _figure(side + 2.2, side + 1.6)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(name) for name in shown]
    axes.set_xticks(range(len(shown)), names, rotation=0 if len(shown) <= 3 else 90)
    axes.set_yticks(range(len(shown)), names)
    title = f"the {len(shown)} of {len(labels)} classes with most errors" if len(shown) < len(labels) else ""
    axes.set(xlabel="answered", ylabel="right", title=title)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{count:,}\n{share:.0%}" if len(shown) <= _MOST_COUNTED else f"{100 * share:.0f}"
        if count and text != "0":
            size = "small" if len(shown) <= _MOST_COUNTED else "x-small"
            color = "white" if share > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    if len(shown) > _MOST_COUNTED:
        figure.supxlabel("figures are percent of the row's examples", fontsize="small", color="0.4")
    return figure


def curves(probabilities: np.ndarray, right: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw ROC and precision-recall curves, a line for each class.

    Args:
        probabilities: (inputs, classes).
        right: bool (inputs, classes), each class with both kinds of inputs.
        labels: the classes' names; of more than 8 the best and the worst are told apart.
    """
    from sklearn import metrics

    figure = _figure(9.5, 5.4)
    left, other = figure.subplots(1, 2)
    rocs, precisions = [], []
    for has, chance in zip(right.T, probabilities.T, strict=True):
        false, true, _ = metrics.roc_curve(has, chance)
        rocs.append(_Line(*_thinned(false, true), metrics.roc_auc_score(has, chance)))
        precision, recall, _ = metrics.precision_recall_curve(has, chance)
        precisions.append(_Line(*_thinned(recall, precision), metrics.average_precision_score(has, chance)))
    left.plot([0, 1], [0, 1], color="0.8", linestyle=":")
    _draw_lines(left, rocs, labels, "area")
    _draw_lines(other, precisions, labels, "average precision")
    left.set(xlabel="share of others that are taken for it", ylabel="share that is found", title="ROC")
    other.set(xlabel="recall", ylabel="precision", title="precision and recall")
    for axes in (left, other):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


class _Line(NamedTuple):
    """A curve, and the area below it."""

    x: np.ndarray
    y: np.ndarray
    area: float


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return no more of a curve's points than can be seen."""
    kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).astype(int))
    return x[kept], y[kept]


def _draw_lines(axes: Axes, lines: Sequence[_Line], labels: Sequence[str], what: str) -> None:
    ranked = sorted(zip(labels, lines, strict=True), key=lambda pair: -pair[1].area)
    told = ranked if len(ranked) <= _MOST_LINES else [*ranked[:3], *ranked[-3:]]
    for _, line in ranked if len(told) < len(ranked) else ():
        axes.plot(line.x, line.y, color="0.85", linewidth=0.7)
    for label, line in told:
        axes.plot(line.x, line.y, linewidth=1.4, label=f"{_short(label)} ({line.area:.3f})")
    title = what if len(told) == len(lines) else f"{what}: the best and worst three of {len(lines)}"
    axes.legend(
        title=title,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=2,
    )


def reliability(bins: Sequence[Bin]) -> Figure:
    """Draw how often answers are right, by the probability that they were given with, and how many there are."""
    figure = _figure(4.6, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence, accuracy, count = (
        np.array([getattr(each, name) for each in bins]) for name in ("confidence", "accuracy", "count")
    )
    above.plot([0, 1], [0, 1], color="0.8", linestyle=":", label="as it should be")
    above.plot(confidence, accuracy, marker="o", markersize=4, label="as it is")
    above.set(ylabel="share that is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="calibration")
    above.legend(frameon=False, fontsize="small", loc="upper left")
    below.bar(confidence, count, width=0.04, color="0.6")
    below.set(
        xlabel="probability", ylabel="answers", yscale="log" if count.max() > 50 * count.min() else "linear"
    )
    return figure


def class_bars(table: dict[str, dict[str, float]]) -> Figure:
    """Draw the F1 of each class, the best on top; of more than 40 classes the worst of those that come up."""
    there = [name for name, row in table.items() if row["support"] or row["precision"]] or list(table)
    ranked = sorted(there, key=lambda name: table[name]["f1"])[:_MOST_BARS]
    figure = _figure(6.4, 0.21 * len(ranked) + 1.1)
    axes = figure.add_subplot()
    values = [table[name]["f1"] for name in ranked]
    axes.barh(range(len(ranked)), values, height=0.7, color="C0")
    ticks = [f"{_short(name)} ({table[name]['support']:,})" for name in ranked]
    axes.set_yticks(range(len(ranked)), ticks, fontsize="small")
    for place, value in enumerate(values):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize="small")
    title = f"the worst {len(ranked)} of {len(table)}" if len(ranked) < len(there) else ""
    axes.set(xlabel="F1 (in brackets: how many there are)", xlim=(0, 1.1), title=title)
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    return figure


def scatter(found: Sequence[float], expected: Sequence[float], name: str) -> Figure:
    """Draw each number that was found over the right one."""
    figure = _figure(4.6, 4.2)
    axes = figure.add_subplot()
    axes.scatter(expected, found, s=8, alpha=min(1.0, max(0.08, 300 / len(expected))), linewidths=0)
    axes.set(xlabel="right number", ylabel=name)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _short(name: str) -> str:
    """Return a name that fits beside an axis, and means nothing to matplotlib's formulas."""
    half = _SHORT // 2
    cut = name if len(name) <= _SHORT else f"{name[:half]}…{name[-half:]}"
    return cut.replace("$", r"\$")
