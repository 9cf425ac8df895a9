"""What the page for texts makes of bundles of every task, without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import kzoo
from kzoo.apps import classifying, heatmap
from kzoo.apps.classifying import Classifier, Piece, comparable, latencies
from kzoo.errors import KzooError
from kzoo.runtime.attribution import Word
from tests import bundles
from tests.runtime.graphs import edit, write_text_bundle, write_token_bundle


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """A bundle of each task that says something of a text, by name."""
    root = tmp_path_factory.mktemp("bundles")
    paths = [
        bundles.write_text_classifier(root / "topic"),
        *(write_text_bundle(root / task, task) for task in ("multilabel", "embedding", "next_sentence")),
        write_token_bundle(root / "tokens", "tokens"),
    ]
    edit(root / "multilabel", thresholds=[0.7, 0.6, 0.0])
    edit(root / "topic", metrics={"accuracy": 0.875, "largest_difference": 1e-6})
    return {path.name: Classifier(kzoo.load(path)) for path in paths}


def test_what_a_bundle_is_good_for_is_read_from_its_manifest(known):
    assert (
        known["topic"].about() == "One of 2 labels: Business, Sports; reads up to 24 tokens; accuracy 0.875."
    )
    assert known["multilabel"].about().startswith("Any of 3 labels: animal, business, sport; reads up to 12")
    assert known["embedding"].about() == "How alike two texts are, from -1 to 1; reads up to 12 tokens."
    assert [known[name].pairs for name in ("topic", "tokens", "embedding", "next_sentence")] == [
        None,
        False,
        True,
        True,
    ]


def test_the_manifests_examples_are_offered_and_say_what_goes_in(tmp_path):
    path = bundles.write_text_classifier(tmp_path / "topic")
    for examples, pairs in ((["The goal."], False), ([["The goal.", "The bank."]], True)):
        edit(path, examples=examples)
        classifier = Classifier(kzoo.load(path))
        assert classifier.pairs is pairs
        assert [*classifier.examples] == [tuple(text) if pairs else text for text in examples]
        classifier.answer(classifier.examples[0], 1)


def test_the_best_labels_are_ranked_and_one_is_said(known):
    bars = known["topic"].answer("the goal of the bank, the match", 5).bars
    assert [(bar.label, bar.said) for bar in bars] == [("Sports", True), ("Business", False)]
    assert sum(bar.score for bar in bars) == pytest.approx(1)
    assert len(known["topic"].answer("the goal", 1).bars) == 1


def test_of_several_labels_those_above_their_thresholds_are_said(known):
    classifier = known["multilabel"]
    bars = classifier.answer("the dog runs fast", 1).bars
    given = [entry["label"] for entry in classifier.pipeline("the dog runs fast")]
    assert [bar.label for bar in bars if bar.said] == given
    assert len(given) > 1
    assert not all(bar.said for bar in classifier.answer("the dog runs fast", 3).bars)


def test_parts_of_a_text_are_found_in_it(known):
    text = "the dog runs, on  monday"
    pieces = known["tokens"].answer(text, 5).pieces
    assert "".join(piece.text for piece in pieces) == text
    assert [(piece.text, piece.label) for piece in pieces if piece.label] == [
        ("dog runs", "animal"),
        ("monday", "time"),
    ]
    assert known["tokens"].answer("", 5).pieces == ()
    assert list(classifying._pieces("a", [])) == [Piece("a")]


def test_two_texts_are_as_alike_as_their_embeddings(known):
    classifier = known["embedding"]
    one, other = classifier.pipeline(["the dog", "a bird"]).astype(np.float64)
    wanted = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert classifier.answer(("the dog", "a bird"), 5).number == pytest.approx(wanted)
    assert classifier.answer(("the dog", "the dog"), 5).number == pytest.approx(1)


def test_what_is_no_text_for_a_bundle_is_answered_with_why(known):
    assert known["next_sentence"].read("a", "b") == ("a", "b")
    assert known["topic"].read("a", " ") == "a"
    assert known["topic"].read("a", "b") == ("a", "b")
    assert known["tokens"].read("a", "b") == "a"
    for name, texts, message in (
        ("topic", (" ", ""), "There is no text yet"),
        ("embedding", ("a", " "), "There is no second text yet"),
        ("topic", ("a" * 10_001, ""), "The text has 10,001 characters"),
        ("next_sentence", ("a", "a" * 10_001), "The text has 10,001 characters"),
    ):
        with pytest.raises(KzooError, match=message):
            known[name].read(*texts)


@pytest.mark.parametrize(
    ("name", "texts", "columns"),
    [
        ("topic", ["the goal"], ["label", "score"]),
        ("multilabel", ["the dog", "a bird"], ["label", "score"]),
        ("embedding", [("the dog", "a bird")], ["score"]),
        ("next_sentence", [("the dog", "a bird")], ["label", "score"]),
        ("tokens", ["the dog, monday"], ["label", "text", "score"]),
    ],
)
def test_many_texts_have_the_results_of_one_and_blanks_have_none(known, name, texts, columns, monkeypatch):
    monkeypatch.setattr(classifying, "_PAUSE", -1)
    monkeypatch.setattr(classifying, "_AT_ONCE", 2)
    classifier = known[name]
    many = [*texts * 3, None, None, *texts]
    sizes = [len(found) for found in classifier.label_many(many)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0, len(many))
    assert len(set(sizes)) > 2
    *_, results = classifier.label_many(many)
    alone = classifier.columns([*classifier.label_many(texts)][-1])
    together = classifier.columns(results)
    assert list(together) == columns
    for column in columns:
        rows = rounded(together[column])
        assert rows[-len(texts) :] == rows[: len(texts)] == rounded(alone[column])
        assert all(not cell for cell in rows[3 * len(texts) : 3 * len(texts) + 2])


def rounded(values: list) -> list:
    """Return values to so many places as do not depend on what else is in a batch."""
    return [
        rounded(value) if isinstance(value, list) else round(value, 4) if isinstance(value, float) else value
        for value in values
    ]


def test_only_what_says_the_same_kind_of_thing_is_compared(known):
    alone = comparable([known[name] for name in ("topic", "multilabel", "embedding", "tokens")])
    assert alone == {}
    several = [known["topic"], known["tokens"], known["next_sentence"]]
    assert comparable(several) == {"topic": ["next_sentence"], "next_sentence": ["topic"]}


def test_latencies_are_of_both_in_turn(known):
    asked = []
    pair = [SimpleNamespace(seconds=lambda text, name=name: asked.append(name) or 0.25) for name in "ab"]
    assert latencies(pair, "a text") == [250, 250]
    assert asked == list("ab") * 6


def test_words_are_coloured_by_what_they_weigh_and_are_no_markup():
    text = "<b>good\n\nbut</b> late & more"
    words = (Word("<b>good", 0, 7), Word("but</b>", 9, 16), Word("late", 17, 21))
    found = SimpleNamespace(text=text, words=words, weights=np.array([2.0, 0.05, -1.0]))
    drawn = heatmap.draw_words(found)
    assert '<span class="shade-9" title="+2">&lt;b&gt;good</span> <span class="shade-0"' in drawn
    assert '<span class="against-4" title="-1">late</span>' in drawn
    assert '<span class="unread"> &amp; more</span>' in drawn
    assert "<b>" not in drawn
    assert "\n" not in drawn
    pair = SimpleNamespace(
        text=("a b", "c"), words=(Word("b", 2, 3), Word("c", 0, 1, 1)), weights=np.zeros(2)
    )
    assert heatmap.draw_words(pair).count("<p>") == 2
    assert "against" not in heatmap.draw_words(pair)
