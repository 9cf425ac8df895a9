"""What is timed: one input at a time, in turn, as each task takes it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kzoo.data import Examples
from kzoo.recipes.evaluation.timing import medians, time_pipelines, timed_unit


class Asked:
    """Stands for a pipeline, and keeps what it was asked."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __call__(self, inputs, **options):
        self.log.append((self.name, inputs, options))

    def guesses(self, inputs):
        self.log.append((self.name, inputs, "guessed"))


def ask(task, inputs, num_beams=None):
    log = []
    recipe = SimpleNamespace(task=task, evaluation=SimpleNamespace(num_beams=num_beams))
    parts = SimpleNamespace(test=Examples(inputs, [""] * len(inputs)))
    taken = time_pipelines({name: Asked(log, name) for name in ("one", "other")}, recipe, parts)
    assert set(taken) == {"one", "other"} and min(taken.values()) >= 0
    assert [name for name, *_ in log] == ["one", "other"] * (len(log) // 2)
    return timed_unit(recipe), [asked for _, *asked in log[::2]]


def test_each_task_is_asked_in_its_own_way():
    unit, asked = ask("classification", ["a", "b"])
    assert (unit, asked) == ("a text", [[["a"], {}], [["a"], {}], [["b"], {}]])  # the first one warms up
    assert ask("embedding", [("a", "b"), ("c", "d")])[1][1:] == [[["a"], {}], [["c"], {}]]
    assert ask("seq2seq", ["a"], num_beams=5)[1][1:] == [[["a"], {"num_beams": 5}]]
    unit, asked = ask("causal_lm", ["ROMEO:\nI dream'd a dream.\n\nMERCUTIO:\nAnd so did I."])
    assert unit == "32 tokens"
    assert ["MERCUTIO:\n"] in [given for given, _ in asked]
    assert all(options == {"max_new_tokens": 32} for _, options in asked)
    assert ask("mlm", ["a line\n\nanother line"])[1][0] == [["another line"], "guessed"]
    unit, asked = ask("image_classification", np.zeros((2, 4, 4, 3), np.uint8))
    assert unit == "an image" and asked[0][0][0].shape == (4, 4, 3)


def test_a_median_is_of_all_but_the_first(monkeypatch):
    clock = iter([0.0, 9.0, 9.0, 10.0, 10.0, 12.0, 12.0, 15.0])
    monkeypatch.setattr("kzoo.recipes.evaluation.timing.time.perf_counter", lambda: next(clock))
    assert medians({"it": len}, ["a", "b", "c"]) == {"it": pytest.approx(2.0)}
