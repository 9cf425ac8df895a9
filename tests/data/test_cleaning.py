"""What is dropped from pairs of texts, and what is said of it."""

import pytest

from kzoo.data import Cleaning, Examples, clean_pairs

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
