"""Explanations of what bundles give: the words that were planted are found, and what it costs them is right."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.runtime import TruncationWarning
from kzoo.runtime.attribution import integrate, log_odds, rollout, without_each, words_of
from kzoo.runtime.explanation import explain, methods
from kzoo.text import Tokenizer
from tests.bundles import write_text_classifier, write_translator
from tests.runtime.graphs import write_text_bundle

TEXT = "the bank of the match of shares"


@pytest.fixture(scope="module")
def topic(tmp_path_factory):
    """A classifier that adds 3 to a label's logit for each word that it owns."""
    return kzoo.load(write_text_classifier(tmp_path_factory.mktemp("bundles") / "topic"), device="cpu")


def test_occlusion_finds_the_planted_words(topic):
    found = explain(topic, TEXT)
    assert (found.label, found.method) == ("Business", "occlusion")
    assert found.score == pytest.approx(topic(TEXT)["score"])
    assert [word.text for word in found.words] == TEXT.split()
    assert [TEXT[word.start : word.end] for word in found.words] == TEXT.split()
    np.testing.assert_allclose(found.weights, [0, 3, 0, 0, -3, 0, 3], atol=1e-5)


def test_another_label_is_explained_when_asked(topic):
    found = explain(topic, TEXT, label="Sports")
    assert found.label == "Sports" and found.score < 0.5
    np.testing.assert_allclose(found.weights, [0, -3, 0, 0, 3, 0, -3], atol=1e-5)


def test_both_texts_of_a_pair_have_weights(topic):
    pair = ("the bank", "of match")
    found = explain(topic, pair, label="Sports")
    assert [(word.text, word.part, word.start) for word in found.words] == [
        ("the", 0, 0),
        ("bank", 0, 4),
        ("of", 1, 0),
        ("match", 1, 3),
    ]
    np.testing.assert_allclose(found.weights, [0, -3, 0, 3], atol=1e-5)


def test_a_text_that_is_too_long_is_explained_as_far_as_it_was_read(topic):
    with pytest.warns(TruncationWarning, match="cut"):
        found = explain(topic, "the bank " * 40)
    assert len(found.words) == 22
    assert found.words[-1].end == len("the bank " * 11) - 1


def test_one_word_alone_is_explained(topic):
    np.testing.assert_allclose(explain(topic, "shares").weights, [3], atol=1e-5)


def test_labels_that_do_not_exclude_each_other_are_explained_by_their_own_logits(tmp_path):
    pipeline = kzoo.load(write_text_bundle(tmp_path / "many", "multilabel"), device="cpu")
    found = explain(pipeline, "the dog runs", label="sport")
    scores = {entry["label"]: entry["score"] for entry in pipeline("the dog runs", threshold=0.0)}
    assert found.score == pytest.approx(scores["sport"])
    fewer = [
        {entry["label"]: entry["score"] for entry in results}["sport"]
        for results in pipeline(["dog runs", "the runs", "the dog"], threshold=0.0)
    ]
    odds = [np.log(score / (1 - score)) for score in [scores["sport"], *fewer]]
    np.testing.assert_allclose(found.weights, odds[0] - np.asarray(odds[1:]), atol=1e-4)


def test_what_it_says_goes_into_json(topic):
    found = json.loads(json.dumps(explain(topic, TEXT).as_dict()))
    assert found["words"][1] == {"text": "bank", "start": 4, "end": 8, "part": 0, "weight": pytest.approx(3)}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no words"),
        (" \n ", {}, "no words"),
        (3, {}, "of type int"),
        (TEXT, {"label": "Sport"}, "Did you mean 'Sports'"),
        (TEXT, {"method": "occlusions"}, "Did you mean 'occlusion'"),
    ],
)
def test_mistakes(topic, text, options, message):
    with pytest.raises(KzooError, match=message):
        explain(topic, text, **options)


def test_only_labels_are_explained(tmp_path, topic):
    assert methods(topic) == ("occlusion",)
    translator = kzoo.load(write_translator(tmp_path / "en-de"), device="cpu")
    assert methods(translator) == ()
    with pytest.raises(KzooError, match="'en-de' is for the task 'seq2seq'"):
        explain(translator, "a text")


# The arithmetic.


def test_words_are_joined_from_their_pieces():
    text = "dog-runsand  words,\nand a dog"
    tokenizer = Tokenizer.train(["a dog runs and sand words"] * 3, vocab_size=200)
    found = words_of(text, tokenizer.encode([text], max_length=64, offsets=True))
    assert [word.text for word, _ in found] == ["dog", "-", "runsand", "words", ",", "and", "a", "dog"]
    places = [place for _, group in found for place in group]
    assert places == list(range(1, len(places) + 1))
    assert len(found[2][1]) > 1


def test_spaces_part_words_even_where_the_tokenizer_knows_none():
    tokenizer = Tokenizer.train(["a dog runs and a cat sleeps"] * 3, kind="unigram", vocab_size=40)
    found = words_of("a dog  runs", tokenizer.encode(["a dog  runs"], max_length=64, offsets=True))
    assert [word.text for word, _ in found] == ["a", "dog", "runs"]


@pytest.mark.parametrize("logits", [[1000.0, -1000.0, 3.0], [0.1, 0.2, -0.3]])
def test_log_odds(logits):
    row = np.asarray([logits])
    shares = np.exp(row - row.max())
    p = shares[0, 2] / shares.sum()
    if p > 1e-300:
        assert log_odds(row, 2, exclusive=True)[0] == pytest.approx(np.log(p / (1 - p)))
    assert np.isfinite(log_odds(row, 0, exclusive=True)).all()
    assert log_odds(row, 2, exclusive=False)[0] == logits[2]
    assert log_odds(row[:, 2:], 0, exclusive=True)[0] == logits[2]


def test_groups_are_left_out_one_by_one():
    feeds = {"input_ids": np.asarray([[7, 5, 6, 8]]), "attention_mask": np.ones((1, 4), int)}
    first, second = without_each(feeds, [[1, 2], [1], [0, 1, 2, 3]], pad_id=9, batch_size=2)
    assert first["input_ids"].tolist() == [[7, 8, 9], [7, 6, 8]]
    assert first["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert second["input_ids"].tolist() == [[9]] and second["attention_mask"].tolist() == [[0]]


def test_rollout_is_the_product_of_half_attention_and_half_identity():
    attention = np.random.default_rng(0).dirichlet(np.ones(5), (3, 2, 5))
    expected = np.eye(5)
    for layer in attention:
        expected = (layer.mean(axis=0) + np.eye(5)) / 2 @ expected
    np.testing.assert_allclose(rollout(attention), expected, atol=1e-12)
    np.testing.assert_allclose(rollout(attention).sum(axis=1), 1)


@pytest.mark.parametrize("edges", [[0, 1], [0, 0.25, 1]])
def test_integration_is_exact_for_polynomials(edges):
    """Of a cubic in two scales, each one's share is known."""

    def slopes(scale):
        a, b = scale[:, 1], scale[:, 3]
        assert (scale[:, [0, 2]] == 1).all() and a.min() > 0 and a.max() < 1
        return np.stack([a, 3 * a**2 + b, a, a], axis=1)

    np.testing.assert_allclose(integrate(slopes, 4, [1, 3], edges), [0, 1.5, 0, 0.5], atol=1e-6)


def test_no_warning_for_a_text_that_fits(topic):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(topic, TEXT)
