"""Scores of probabilities, against scikit-learn's and by hand; thresholds, against trying them all."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores import (
    Bin,
    calibration,
    confidences,
    probability_scores,
    ranking_scores,
    tune_thresholds,
)
from tests.optional import require


@pytest.fixture(scope="module")
def single():
    rng = np.random.default_rng(0)
    right = np.eye(3, dtype=bool)[rng.integers(3, size=500)]
    weights = np.exp(rng.normal(size=right.shape) + 2 * right)
    return weights / weights.sum(axis=1, keepdims=True), right


@pytest.fixture(scope="module")
def several():
    rng = np.random.default_rng(0)
    right = rng.random((800, 5)) < (0.4, 0.3, 0.2, 0.1, 0.05)
    return 1 / (1 + np.exp(2 - rng.normal(size=right.shape) - 2 * right)), right


def test_calibration_by_hand():
    bins = calibration(np.array([0.95, 0.99, 0.55, 0.6, 1.0]), np.array([1, 0, 1, 0, 1], bool), bins=10)
    assert bins == [Bin(0.55, 1.0, 1), Bin(0.6, 0.0, 1), Bin(0.98, pytest.approx(2 / 3), 3)]


def test_calibration_error_by_hand():
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    right = np.array([[1, 0], [0, 1], [0, 1]], bool)
    error = probability_scores(chances, right, single=True)["calibration_error"].value
    # Two answers of 0.9, one of them right; one of 0.7, right.
    assert error == pytest.approx((2 * 0.4 + 1 * 0.3) / 3)


def test_confidence_that_is_kept_is_no_error():
    rng = np.random.default_rng(0)
    chances = rng.random((40_000, 1))
    right = rng.random(chances.shape) < chances
    assert probability_scores(chances, right, single=False)["calibration_error"].value < 0.02
    assert probability_scores(chances**3, right, single=False)["calibration_error"].value > 0.1


def test_ranking_is_scored_as_scikit_learn_says(single, several):
    metrics = require("sklearn.metrics")
    for (chances, right), is_single in ((single, True), (several, False)):
        scores = probability_scores(chances, right, single=is_single)
        assert scores["roc_auc"].value == pytest.approx(metrics.roc_auc_score(right, chances))
        assert scores["average_precision"].value == pytest.approx(
            metrics.average_precision_score(right, chances, average="macro")
        )
        assert scores["roc_auc"].margin is None


def test_a_class_that_all_have_or_none_is_left_out(single):
    chances, right = single
    wider = np.hstack([right, np.zeros((500, 1), bool)])
    more = np.hstack([chances, np.zeros((500, 1))])
    assert ranking_scores(more, wider)[:3] == ranking_scores(chances, right)
    assert ranking_scores(more, wider)[3] == {}
    only = probability_scores(np.ones((4, 1)), np.ones((4, 1), bool), single=True)
    assert list(only) == ["calibration_error"]


def test_the_confidence_of_an_answer_is_its_probability(single):
    chances, right = single
    found, hits = confidences(chances, right, single=True)
    assert (found == chances.max(axis=1)).all()
    assert hits.mean() == (chances.argmax(axis=1) == right.argmax(axis=1)).mean()


def f1(chances, right, thresholds, metric):
    metrics = require("sklearn.metrics")
    given = chances >= thresholds
    return metrics.f1_score(right, given, average=metric.removesuffix("_f1"), zero_division=0)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_thresholds_are_better_than_a_half_and_than_any_other_for_all(several, metric):
    chances, right = several
    found = f1(chances, right, tune_thresholds(chances, right, metric=metric), metric)
    assert found > f1(chances, right, 0.5, metric) + 0.01
    assert found >= max(f1(chances, right, least, metric) for least in np.linspace(0.05, 0.95, 91)) - 1e-9


def test_each_label_has_a_threshold_of_its_own_where_that_pays():
    """Two labels whose probabilities mean different things."""
    rng = np.random.default_rng(0)
    right = rng.random((400, 2)) < 0.5
    chances = np.stack([0.6 + 0.3 * right[:, 0], 0.1 + 0.3 * right[:, 1]], axis=1)
    found = tune_thresholds(chances, right)
    assert 0.6 < found[0] < 0.9
    assert 0.1 < found[1] < 0.4


def test_a_label_with_a_handful_of_examples_does_not_follow_chance():
    """Ten labels of noise with the same probabilities: one threshold for all is chosen."""
    rng = np.random.default_rng(0)
    right = rng.random((60, 10)) < 0.1
    chances = np.clip(0.3 * rng.random(right.shape) + 0.2 * right, 0, 1)
    assert len(set(tune_thresholds(chances, right).tolist())) == 1


def test_a_label_that_was_not_learnt_is_not_given_to_everything():
    """Two labels that each need a threshold of their own, and one of noise: at its best it would be on every text."""
    rng = np.random.default_rng(0)
    right = rng.random((1000, 3)) < (0.5, 0.5, 0.02)
    chances = np.stack([0.6 + 0.3 * right[:, 0], 0.1 + 0.3 * right[:, 1], 0.04 * rng.random(1000)], axis=1)
    found = tune_thresholds(chances, right)
    assert found[0] > 0.6 > 0.4 > found[1]
    assert found[2] == 0.5


def test_too_little_to_tune_on():
    assert tune_thresholds(np.array([[0.8, 0.2]]), np.array([[True, False]])).shape == (2,)
    never = tune_thresholds(np.full((10, 1), 0.3), np.zeros((10, 1), bool))
    assert ((never > 0) & (never <= 1)).all()
    with pytest.raises(KzooError, match="nothing to compare"):
        tune_thresholds(np.zeros((0, 2)), np.zeros((0, 2), bool))
