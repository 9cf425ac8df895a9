"""What is dropped from pairs of texts, and what is said of it."""

import pytest

from kzoo.data import Cleaning, Examples, clean_pairs, drop_duplicates, drop_empty

PAIRS = [
    ("A dog runs.", "Ein Hund rennt."),
    ("", "Nichts."),
    ("A cat.", " \t"),
    ("A dog runs. ", "Ein Hund rennt."),
    ("Oh!", "Ach so, na dann."),
    ("No.", "Das ist nun wirklich etwas ganz und gar anderes als zuvor."),
    ("long " * 30, "lang " * 30),
]
EXAMPLES = Examples([source for source, _ in PAIRS], [target for _, target in PAIRS])


@pytest.mark.parametrize(
    ("rules", "kept", "dropped"),
    [
        ({}, [0, 3, 4, 5, 6], {"with an empty side": [2, 3]}),
        ({"duplicates": False}, [0, 4, 5, 6], {"with an empty side": [2, 3], "there before": [4]}),
        ({"max_characters": 100}, [0, 3, 4, 5], {"with an empty side": [2, 3], "too long": [7]}),
        ({"max_ratio": 2.0}, [0, 3, 4, 6], {"with an empty side": [2, 3], "of too different lengths": [6]}),
    ],
)
def test_what_is_dropped(rules, kept, dropped):
    cleaned, report = clean_pairs(EXAMPLES, Cleaning(**rules))
    assert list(zip(cleaned.inputs, cleaned.targets, strict=True)) == [PAIRS[row] for row in kept]
    assert report.dropped == dropped
    assert report.kept == len(kept)
    assert report.to_json()["dropped"]["with an empty side"] == {"count": 2, "first_rows": [2, 3]}


def test_clean_pairs_are_left_as_they_are():
    pairs = EXAMPLES.take([0, 4])
    cleaned, report = clean_pairs(pairs, Cleaning(max_ratio=2.0, max_characters=100, duplicates=False))
    assert cleaned is pairs
    assert str(report) == "2 pairs read, 2 kept"


def test_duplicates_are_dropped_and_contradictions_told():
    examples = Examples(["hi", "hi ", "hi", "bye", "hi"], ["ham", "ham", "ham", "ham", "spam"])
    kept, report = drop_duplicates(examples, [Examples(["bye"], ["ham"])])
    assert (kept.inputs, kept.targets) == (["hi", "hi "], ["ham", "ham"])
    assert (report.before, report.held_out, report.contradictions) == ([3, 5], [4], [(1, 5)])
    for part in ("5 examples read, 2 kept", "2 there before", "1 in the test or validation", "rows 1 and 5"):
        assert part in str(report)
    alone = Examples(["a", ("a", "b")], [["x"], ["y"]])
    assert drop_duplicates(alone)[0] is alone
    assert str(drop_duplicates(alone)[1]) == "2 examples read, 2 kept"
    many = Examples(["a"] * 9, [0.0, *[1.0] * 8])
    assert "rows 1 and 2, 1 and 3, 1 and 4, 1 and 5, 1 and 6, and 3 more" in str(drop_duplicates(many)[1])


def test_empty_texts_are_dropped():
    examples = Examples([("a", "b"), ("c", " "), ("", "d"), ("e", "f")], [1.0, 2.0, 3.0, 4.0])
    kept, rows = drop_empty(examples)
    assert (kept.targets, rows) == ([1.0, 4.0], [2, 3])
