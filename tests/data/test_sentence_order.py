"""Pairs of sentences that follow each other, or do not."""

import pytest

from kzoo.data import sentence_pairs
from kzoo.errors import KzooError

DOCUMENTS = [" ".join(f"Sentence {name}{number}." for number in range(30)) for name in "abc"]


def test_half_of_the_pairs_go_on_with_another_document():
    pairs = sentence_pairs(DOCUMENTS, "next")
    assert len(pairs) == 87 and pairs.inputs[0][0] == "Sentence a0."
    for (first, second), label in zip(pairs.inputs, pairs.targets, strict=True):
        (letter, number), other = (first[9], int(first[10:-1])), second[9:]
        assert (label == "next") == (other == f"{letter}{number + 1}.")
        assert label == "next" or other[0] != letter
    assert 25 < pairs.targets.count("random") < 62
    assert sentence_pairs(DOCUMENTS, "next").inputs == pairs.inputs
    assert sentence_pairs(DOCUMENTS, "next", seed=1).targets != pairs.targets


def test_half_of_the_pairs_are_swapped():
    pairs = sentence_pairs(DOCUMENTS[:1], "order")
    for (first, second), label in zip(pairs.inputs, pairs.targets, strict=True):
        assert int(second[10:-1]) - int(first[10:-1]) == (1 if label == "in order" else -1)
    assert 5 < pairs.targets.count("swapped") < 24


@pytest.mark.parametrize(
    ("documents", "kind", "message"),
    [
        (["One sentence.", " "], "order", "No document has two sentences"),
        (["One. And two."], "next", "comes from another document: give several"),
        (DOCUMENTS, "random", "Unknown kind of pairs 'random'"),
    ],
)
def test_texts_without_pairs(documents, kind, message):
    with pytest.raises(KzooError, match=message):
        sentence_pairs(documents, kind)
