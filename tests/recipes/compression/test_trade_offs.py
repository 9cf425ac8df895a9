"""Which models no other beats, and the picture that says so."""

from __future__ import annotations

import itertools

import pytest

from kzoo.recipes.compression.trade_offs import draw_trade_offs, front
from tests.optional import require


def test_what_is_beaten_is_left_out():
    #        beaten   best  cheapest  as good as the cheapest, and dearer
    costs = [5.0, 9.0, 1.0, 2.0]
    scores = [0.7, 0.9, 0.8, 0.8]
    assert front(costs, scores) == [2, 1]


def test_equals_beat_nobody():
    assert front([1.0, 1.0], [0.5, 0.5]) == [0, 1]
    assert front([3.0], [0.0]) == [0]


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_every_model_is_named_beside_each_panel_and_no_two_names_meet(lower_is_better):
    require("matplotlib")
    names = [f"model {number}" for number in range(9)]
    scores = [0.8] * 8 + [0.2]
    costs = {
        "MB": [float(2**number) for number in range(9)],
        "milliseconds": [1.0 + 0.1 * n for n in range(9)],
    }
    figure = draw_trade_offs(names, scores, [0.1, None] * 4 + [0.0], costs, "accuracy", lower_is_better)
    figure.canvas.draw()
    left, right = figure.axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert left.get_ylabel() == "accuracy"
    assert left.yaxis_inverted() == lower_is_better
    for axes in (left, right):
        assert {text.get_text() for text in axes.texts} == set(names)
        heights = sorted(axes.transAxes.transform(text.xyann)[1] for text in axes.texts)
        assert min(above - below for below, above in itertools.pairwise(heights)) > 12  # a line of text
        assert axes.bbox.y0 - 1 <= heights[0] and heights[-1] <= axes.bbox.y1 + 1
        best = {text.get_text() for text in axes.texts if text.get_color() == "C0"}
        assert best == ({"model 0", "model 8"} if lower_is_better else {"model 0"})
