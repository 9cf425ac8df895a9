"""Correlations, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores import compare_numbers, number_scores
from tests.optional import require


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 6, 400) / 5
    return list(right + 0.4 * rng.normal(size=400)), list(right)


def test_correlations_are_those_of_scipy(numbers):
    stats = require("scipy.stats")
    found, right = numbers
    rough = [round(value, 1) for value in found]
    scores = number_scores(rough, right)
    assert scores["pearson"].value == pytest.approx(stats.pearsonr(rough, right).statistic)
    assert scores["spearman"].value == pytest.approx(stats.spearmanr(rough, right).statistic)
    interval = stats.bootstrap(
        (np.array(rough), np.array(right)),
        lambda one, other: stats.spearmanr(one, other).statistic,
        paired=True,
        vectorized=False,
        n_resamples=300,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert scores["spearman"].margin == pytest.approx((interval.high - interval.low) / 2, rel=0.15)


def test_the_direction_counts_and_nothing_correlates_with_a_constant():
    scores = number_scores([3.0, 2.0, 1.0], [0.0, 0.5, 1.0], resamples=0)
    assert (scores["pearson"].value, scores["spearman"].value) == pytest.approx((-1, -1))
    flat = number_scores([1.0, 1.0, 1.0], [0.0, 0.5, 1.0])
    assert (flat["pearson"].value, flat["spearman"].value) == (0, 0)


def test_of_two_graders_the_better_one_is_found_out(numbers):
    found, right = numbers
    noise = np.random.default_rng(1).normal(size=400)
    pairs = compare_numbers(list(np.array(found) + noise), found, right)
    assert all(pair.p_value < 0.01 and pair.second.value > pair.first.value for pair in pairs.values())


def test_unequal_numbers_are_refused_with_both():
    with pytest.raises(KzooError, match="2 answers, but 3"):
        number_scores([1.0, 2.0], [1.0, 2.0, 3.0])
