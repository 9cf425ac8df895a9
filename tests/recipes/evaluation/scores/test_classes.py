"""Scores of classes and of sets of labels, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores import (
    class_scores,
    class_table,
    compare_classes,
    compare_label_sets,
    confusion,
    indicators,
    label_scores,
    label_table,
)
from tests.optional import require

NAMES = ["a", "b", "c", "rare", "never"]


def answered(rng: np.random.Generator, right: np.ndarray, share: float) -> np.ndarray:
    return np.where(rng.random(len(right)) < share, right, rng.choice(["a", "b", "c"], len(right)))


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(0)
    right = rng.choice(["a", "b", "c", "rare"], 400, p=[0.6, 0.3, 0.09, 0.01])
    return list(answered(rng, right, 0.8)), list(right)


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    right = rng.random((300, 4)) < (0.5, 0.3, 0.2, 0.05)
    found = right ^ (rng.random(right.shape) < 0.1)
    return tuple([[NAMES[place] for place in np.flatnonzero(row)] for row in side] for side in (found, right))


def test_classes_score_as_scikit_learn_says(classes):
    metrics = require("sklearn.metrics")
    found, right = classes
    scores = class_scores(found, right, named=["b"])
    accuracy = metrics.accuracy_score(right, found)
    assert scores["accuracy"].value == pytest.approx(accuracy)
    assert scores["macro_f1"].value == pytest.approx(metrics.f1_score(right, found, average="macro"))
    assert scores["micro_f1"].value == pytest.approx(metrics.f1_score(right, found, average="micro"))
    assert scores["f1:b"].value == pytest.approx(
        metrics.f1_score(right, found, labels=["b"], average=None)[0]
    )
    # What theory says of a share.
    margin = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 400)
    assert scores["accuracy"].margin == pytest.approx(margin, rel=0.1)
    assert all(score.margin > 0 for score in scores.values())
    assert class_scores(found, right, resamples=0)["accuracy"].margin is None


def test_sets_of_labels_score_as_scikit_learn_says(sets):
    metrics = require("sklearn.metrics")
    found, right = sets
    one, other = (indicators(side, NAMES[:4]).toarray() for side in (found, right))
    scores = label_scores(found, right, named=["c", "never"])
    assert list(scores) == ["macro_f1", "micro_f1", "exact_match", "f1:c", "f1:never"]
    assert scores["macro_f1"].value == pytest.approx(metrics.f1_score(other, one, average="macro"))
    assert scores["micro_f1"].value == pytest.approx(metrics.f1_score(other, one, average="micro"))
    assert scores["exact_match"].value == pytest.approx(metrics.accuracy_score(other, one))
    assert scores["f1:c"].value == pytest.approx(metrics.f1_score(other, one, average=None)[2])
    assert scores["f1:never"].value == 0


def test_the_table_of_classes_is_scikit_learns(classes, sets):
    metrics = require("sklearn.metrics")
    for table, found, right in ((class_table, *classes), (label_table, *sets)):
        rows = table(found, right, NAMES)
        encoded = (found, right) if table is class_table else (indicators(s, NAMES).toarray() for s in sets)
        one, other = encoded
        labels = NAMES if table is class_table else None
        wanted = metrics.precision_recall_fscore_support(other, one, labels=labels, zero_division=0)
        assert list(rows) == NAMES
        for place, row in enumerate(rows.values()):
            assert [*row.values()] == pytest.approx([column[place] for column in wanted])


def test_confusion_counts_what_happened(classes):
    metrics = require("sklearn.metrics")
    table = confusion(*classes)
    matrix = metrics.confusion_matrix(classes[1], classes[0], labels=NAMES)
    assert [[table.get(right, {}).get(answer, 0) for answer in NAMES] for right in NAMES] == matrix.tolist()


def test_of_two_classifiers_the_better_one_is_found_out():
    rng = np.random.default_rng(1)
    right = rng.choice(["a", "b", "c"], 500)
    good, bad, other = (list(answered(rng, right, share)) for share in (0.9, 0.7, 0.9))
    pairs = compare_classes(bad, good, list(right), named=["a"])
    assert list(pairs) == ["accuracy", "macro_f1", "micro_f1", "f1:a"]
    assert all(pair.p_value < 0.01 for pair in pairs.values())
    assert pairs["accuracy"].second.value == class_scores(good, list(right))["accuracy"].value
    assert all(pair.p_value > 0.05 for pair in compare_classes(other, good, list(right)).values())
    assert {pair.p_value for pair in compare_classes(good, good, list(right)).values()} == {1.0}


def test_a_paired_test_sees_what_two_margins_hide():
    """Ten examples of 500 that one gets right and the other not, and no other difference."""
    right = ["a"] * 500
    one = ["b"] * 100 + ["a"] * 400
    other = ["b"] * 90 + ["a"] * 410
    pair = compare_classes(one, other, right)["accuracy"]
    assert pair.second.value - pair.first.value < pair.first.margin
    assert pair.p_value < 0.01


def test_of_two_labellers_the_better_one_is_found_out(sets):
    found, right = sets
    pairs = compare_label_sets(found, right, right)
    assert pairs["exact_match"].second.value == 1
    assert all(pair.p_value < 0.01 for pair in pairs.values())


def test_one_class_alone_and_thousands_have_scores():
    assert class_scores(["a"] * 3, ["a"] * 3)["macro_f1"].value == 1
    assert class_table(["a"], ["a"], ["a"])["a"]["f1"] == 1
    many = [f"class {number}" for number in range(4000)]
    scores = class_scores(many, many[1:] + many[:1])
    assert scores["accuracy"].value == 0
    assert class_scores(many, many)["macro_f1"].value == 1


def test_unequal_numbers_are_refused_with_both():
    for compare in (class_scores, label_scores):
        with pytest.raises(KzooError, match="2 answers, but 3"):
            compare([["a"], ["b"]], [["a"], ["b"], ["c"]])
        with pytest.raises(KzooError, match="nothing to compare"):
            compare([], [])


def test_a_label_that_the_model_does_not_know_is_named():
    with pytest.raises(KzooError, match=r"Example 1 has the label 'gladness'.*Did you mean 'sadness'"):
        indicators([["joy"], ["gladness"]], ["joy", "sadness"])
