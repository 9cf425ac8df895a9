"""What a card shows of single examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kzoo.data import Examples, ImageBytes
from kzoo.recipes.evaluation.answers import Classes, LabelSets, Similarities, WordLabels
from kzoo.recipes.evaluation.showing import cell, hardest_table, show_hardest


def test_the_most_wrong_answer_comes_first():
    found = Classes(["a", "a", "b"], ["a", "b"], np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    rows = show_hardest(Examples(["one", ("two", "three"), "four"], ["b", "b", "b"]), found, count=2)
    assert rows[0] == {"input": "one", "expected": "b", "found": "a", "loss": round(-np.log(0.1), 4)}
    assert rows[1]["input"] == "two / three"
    assert len(rows) == 2


def test_labels_words_and_numbers_are_said_in_words():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.4]])
    labels = LabelSets([], ["a", "b"], probabilities).above(np.array([0.5, 0.5]))
    rows = show_hardest(Examples(["one", "two"], [[], ["b"]]), labels)
    assert "| one | none | a |" in hardest_table(rows)
    words = WordLabels([["O", "O"], ["B-X", "O"]])
    (row, _) = show_hardest(Examples(["a b", "c d"], [["O", "O"], ["O", "O"]]), words)
    assert (row["expected"], row["found"], row["loss"]) == (["c O"], ["c B-X"], 1.0)
    # What counts is the order: the second and third pairs change places.
    likeness = Similarities([0.9, 0.2, 0.3])
    rows = show_hardest(Examples([("a", "b"), ("c", "d"), ("e", "f")], [1.0, 0.5, 0.1]), likeness)
    assert [row["input"] for row in rows] == ["c / d", "e / f", "a / b"]
    assert "| c / d | 0.50 | 0.20 | 0.33 |" in hardest_table(rows)


def test_images_are_named_without_where_they_lie():
    found = Classes(["a"], ["a", "b"], np.array([[0.9, 0.1]]))
    (row,) = show_hardest(Examples([Path("/home/somebody/pets/b/3.png")], ["b"]), found)
    assert row["input"] == "b/3.png"
    (row,) = show_hardest(Examples([ImageBytes(b"...", "pets/test/b/3.png")], ["b"]), found)
    assert row["input"] == "b/3.png"
    (row,) = show_hardest(Examples(np.zeros((1, 2, 2, 1), "uint8"), ["b"]), found)
    assert row["input"] == "image 0"


def test_a_text_in_a_table_is_no_command():
    line = cell("# Win | [a](http://x.com) <img src=x> `code` **now**\n\n&amp; @you www.x.com $5$ ~~no~~ \\")
    assert "\n" not in line
    for command in ("|", "[", "]", "<", ">", "`", "*", "#", "&", "@", "$", "~", ":"):
        assert line.count(command) == line.count(f"\\{command}"), command
    assert r"www\.x" in line
    assert line.endswith(r"\\")


def test_a_long_text_is_cut():
    assert len(cell("word " * 1000)) < 260
    assert cell("word " * 1000).endswith(" …")


def test_of_nothing_there_is_no_table():
    assert hardest_table([]) == ""
