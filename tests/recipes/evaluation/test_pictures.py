"""Pictures of answers: there for every task, and readable whether there are two classes or hundreds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from kzoo.recipes.evaluation import pictures
from kzoo.recipes.evaluation.answers import Classes, LabelSets, Numbers, Translations, WordLabels
from kzoo.recipes.evaluation.scores import Bin
from tests.optional import require


@pytest.fixture(autouse=True)
def _needed():
    for package in ("matplotlib", "sklearn"):
        require(package)


def classes(count: int, examples: int = 300):
    """A classifier's answers that are mostly right, and what is right."""
    rng = np.random.default_rng(0)
    right = np.arange(examples) % count
    weights = np.exp(rng.normal(size=(examples, count)) + 3 * np.eye(count)[right])
    labels = [f"class {number}" for number in range(count)]
    found = [labels[place] for place in weights.argmax(axis=1)]
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    return Classes(found, labels, probabilities), [labels[place] for place in right]


def texts_of(figure):
    """All that can be read in a picture."""
    figure.canvas.draw()
    artists = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return {artist.get_text() for artist in artists if artist.get_text()}


@pytest.mark.parametrize(
    ("found", "expected", "names"),
    [
        (*classes(2), {"confusion.png", "calibration.png", "curves.png"}),
        (*classes(3), {"confusion.png", "calibration.png", "curves.png", "classes.png"}),
        (
            LabelSets([["a"], []], ["a", "b"], np.array([[0.9, 0.3], [0.2, 0.1]])).above(np.full(2, 0.5)),
            [["a"], []],
            {"classes.png", "calibration.png", "curves.png"},
        ),
        (WordLabels([["B-X", "O"]]), [["B-X", "O"]], {"classes.png"}),
        (WordLabels([["O", "O"]]), [["O", "O"]], set()),
        (Numbers([0.1, 0.9]), [0.0, 1.0], {"scatter.png"}),
        (Translations(["Hund"]), ["Hund"], set()),
    ],
)
def test_each_task_has_its_pictures(found, expected, names, tmp_path):
    captions = pictures.draw_pictures(found, expected, tmp_path)
    assert captions.keys() == {file.name for file in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 150


def test_a_class_alone_has_no_curves(tmp_path):
    alone = Classes(["a", "a"], ["a"], np.ones((2, 1)))
    assert pictures.draw_pictures(alone, ["a", "a"], tmp_path).keys() == {"confusion.png", "calibration.png"}


def test_thousands_of_classes_are_drawn_without_a_line_for_each(tmp_path):
    found, expected = classes(2000, 2000)
    drawn = pictures.draw_pictures(found, expected, tmp_path)
    assert drawn.keys() == {"confusion.png", "calibration.png", "classes.png"}
    scored = found.scores(expected, resamples=0)
    assert scored["accuracy"].value > 0.1
    assert "roc_auc" not in scored


def test_a_small_matrix_says_counts_and_shares():
    table = {"ham": {"ham": 1200, "spam": 300}, "spam": {"spam": 50}}
    said = texts_of(pictures.confusion_matrix(table, ["ham", "spam"]))
    assert {"1,200\n80%", "300\n20%", "50\n100%", "ham", "spam", "right", "answered"} <= said


def test_a_large_matrix_says_every_class_and_percents():
    labels = [f"feeling {number}" for number in range(28)]
    table = {label: {label: 3, labels[0]: 1} for label in labels[1:]} | {labels[0]: {labels[0]: 4}}
    figure = pictures.confusion_matrix(table, labels)
    assert set(labels) | {"75", "25", "100"} <= texts_of(figure)
    # An eye needs a few pixels for a name.
    (axes,) = figure.axes
    places = [tick.get_window_extent() for tick in axes.get_yticklabels()]
    overlaps = [one for one, other in itertools.pairwise(places) if one.y0 < other.y1]
    assert not overlaps


def test_of_hundreds_of_classes_those_with_errors_are_shown():
    labels = [f"class {number}" for number in range(300)]
    table = {label: {label: 1} for label in labels} | {"class 250": {"class 251": 9}}
    said = texts_of(pictures.confusion_matrix(table, labels))
    assert {"class 250", "class 251", "the 30 of 300 classes with most errors"} <= said
    scores = {label: {"precision": 1.0, "recall": 1.0, "f1": 0.9, "support": 3} for label in labels}
    scores["class 7"]["f1"] = 0.1
    said = texts_of(pictures.class_bars(scores))
    assert {"class 7 (3)", "0.10", "the worst 40 of 300"} <= said


def test_curves_of_many_classes_name_the_best_and_the_worst():
    found, expected = classes(12, 600)
    figure = pictures.curves(found.probabilities, found.right(expected), found.labels)
    assert "area: the best and worst three of 12" in texts_of(figure)
    few, expected = classes(2)
    said = texts_of(pictures.curves(few.probabilities, few.right(expected), few.labels))
    assert len([text for text in said if text.startswith("class 0 (")]) >= 1
    assert "area" in said


def test_names_that_are_long_or_look_like_formulas_are_drawn_as_they_are():
    names = ["costs $5 or $6", "a name that is much too long to stand beside an axis"]
    table = {name: {name: 1} for name in names}
    said = texts_of(pictures.confusion_matrix(table, names))
    assert r"costs \$5 or \$6" in said
    assert "a name that…ide an axis" in said


def test_calibration_shows_every_bin():
    figure = pictures.reliability([Bin(0.2, 0.1, 5), Bin(0.9, 0.95, 5000)])
    above, below = figure.axes
    assert above.lines[1].get_xydata().tolist() == [[0.2, 0.1], [0.9, 0.95]]
    assert len(below.patches) == 2
