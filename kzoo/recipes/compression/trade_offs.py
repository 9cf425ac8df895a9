"""What is worth having of several models: none that is both worse and dearer than another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _OTHER = "C0", "0.6"
# From here on costs are so far apart that their logarithms are drawn.
_FAR = 8


def front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Return which models no other one beats, the cheapest first.

    A model is beaten by one that costs no more and scores no less, and is better in one of the two.

    Args:
        costs: what each costs, less being better.
        scores: what each scores, more being better.

    Example:
        >>> front([9.0, 3.0, 4.0, 2.0], [0.9, 0.8, 0.7, 0.6])
        [3, 1, 0]
    """

    def is_beaten(place: int) -> bool:
        return any(
            costs[other] <= costs[place]
            and scores[other] >= scores[place]
            and (costs[other], scores[other]) != (costs[place], scores[place])
            for other in range(len(costs))
        )

    return sorted(
        (place for place in range(len(costs)) if not is_beaten(place)), key=lambda place: costs[place]
    )


def draw_trade_offs(
    names: Sequence[str],
    scores: Sequence[float],
    margins: Sequence[float | None],
    costs: dict[str, Sequence[float]],
    metric: str,
    lower_is_better: bool = False,
) -> Figure:
    """Draw scores over costs, a panel for each kind of cost, the Pareto front in each and all models named.

    Args:
        names: the models'.
        scores: theirs.
        margins: half a confidence interval of each score, if there is one.
        costs: of each model, by what they are counted in.
        metric: what the scores are.
        lower_is_better: whether low scores are good ones; the axis is then turned round.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(costs), max(3.6, 0.27 * len(names) + 1.6)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
    worth = [-score for score in scores] if lower_is_better else scores
    fronts = [front(values, worth) for values in costs.values()]
    for axes, (unit, values), best in zip(panels, costs.items(), fronts, strict=True):
        _draw_panel(axes, values, scores, margins, best)
        axes.set(xlabel=unit)
    panels[0].set(ylabel=metric)
    if lower_is_better:
        panels[0].invert_yaxis()
    for axes, values, best in zip(panels, costs.values(), fronts, strict=True):
        _name(axes, names, list(zip(values, scores, strict=True)), best)
    figure.suptitle("blue: on the Pareto front; lines: 95% confidence", fontsize="small", color="0.4")
    return figure


def _draw_panel(
    axes: Axes,
    values: Sequence[float],
    scores: Sequence[float],
    margins: Sequence[float | None],
    best: Sequence[int],
) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    steps = [values[place] for place in best], [scores[place] for place in best]
    axes.step(*steps, where="post", color=_BEST, linewidth=1)
    for place, margin in enumerate(margins):
        axes.errorbar(
            values[place],
            scores[place],
            yerr=margin,
            fmt="o",
            color=_BEST if place in best else _OTHER,
            markersize=5,
            elinewidth=0.6,
            alpha=0.9,
        )
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if max(values) > _FAR * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _name(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], best: Sequence[int]
) -> None:
    """Write the names in a column beside the axes, as high as the points if there is room, with lines to these."""
    axes.autoscale_view()
    heights = [axes.transAxes.inverted().transform(axes.transData.transform(point))[1] for point in points]
    # From the bottom up; of points side by side the one on the left is further down.
    order = sorted(range(len(names)), key=lambda place: (round(heights[place], 3), points[place][0]))
    for place, height in zip(order, _spread([heights[place] for place in order]), strict=True):
        axes.annotate(
            names[place],
            points[place],
            xytext=(1.06, height),
            textcoords="axes fraction",
            va="center",
            fontsize="small",
            color=_BEST if place in best else "0.35",
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.6, "shrinkB": 3},
        )


def _spread(heights: Sequence[float]) -> np.ndarray:
    """Return rising heights, moved so that no two are nearer than a line of text, and all are from 0 to 1."""
    gap = min(0.08, 1 / len(heights))
    steps = gap * np.arange(len(heights))
    # Pushed up from below, and down from above: between the two, names stand around their points.
    level = np.asarray(heights) - steps
    pushed = np.maximum.accumulate(level), np.minimum.accumulate(level[::-1])[::-1]
    return steps + np.clip(np.mean(pushed, axis=0), 0, 1 - steps[-1])
