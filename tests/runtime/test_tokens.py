"""Spans, answers and filled-in words: which characters of a text a result is about."""

import math
from itertools import chain

import pytest

import kzoo
from kzoo.errors import BundleError, KzooError
from kzoo.runtime import TruncationWarning
from tests.runtime.graphs import write_token_bundle


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return {
        task: kzoo.load(write_token_bundle(root / task, task), device="cpu", threads=1)
        for task in ("tokens", "qa", "mlm", "replaced_token")
    }


def found(results):
    return [(result["label"], result["text"]) for result in results]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The dog runs fast", [("animal", "dog runs")]),
        ("the  DOG, a cat", [("animal", "DOG"), ("animal", "cat")]),
        ("dog cat runs monday", [("animal", "dog"), ("animal", "cat runs"), ("time", "monday")]),
        ("the runs", [("animal", "runs")]),
        ("dog in runs", [("animal", "dog"), ("animal", "runs")]),
        ("a tree", []),
        ("", []),
    ],
)
def test_tokens_are_joined_to_spans(pipelines, text, spans):
    results = pipelines["tokens"](text)
    assert found(results) == spans
    for result in results:
        assert text[result["start"] : result["end"]] == result["text"]
        assert 0.9 < result["score"] < 1


def test_plain_labels_are_joined_only_where_there_is_an_outside(tmp_path):
    marked = kzoo.load(write_token_bundle(tmp_path / "a", "tokens", labels=["O", "X", "Y", "Z"]))
    assert found(marked("the dog cat runs")) == [("X", "dog cat"), ("Y", "runs")]
    every = kzoo.load(write_token_bundle(tmp_path / "b", "tokens", labels=["W", "X", "Y", "Z"]))
    assert found(every("the dog cat runs")) == [("W", "the"), ("X", "dog"), ("X", "cat"), ("Y", "runs")]


def test_words_between_blanks_have_labels(pipelines):
    """As training data has them, whatever the tokenizer takes for a word; what is cut off has none."""
    texts = ["The dog-runs, fast", "monday", " "]
    assert pipelines["tokens"].word_labels(texts, batch_size=2) == [["O", "B-animal", "O"], ["B-time"], []]
    assert pipelines["tokens"].word_labels("dog") == ["B-animal"]
    with pytest.warns(TruncationWarning):
        assert pipelines["tokens"].word_labels("dog " * 30) == ["B-animal"] * 14 + ["O"] * 16


def test_labels_that_do_not_fit_the_graph(tmp_path):
    pipeline = kzoo.load(write_token_bundle(tmp_path / "b", "tokens", labels=["one"]))
    with pytest.raises(BundleError, match="4 classes and the manifest 1 labels"):
        pipeline("dog")


def test_long_texts_are_cut(pipelines):
    with pytest.warns(TruncationWarning):
        assert len(pipelines["tokens"]("dog " * 30)) == 14


def test_replaced_tokens(pipelines):
    (first, second) = pipelines["replaced_token"]("the Shares fell on monday")
    assert first["score"] == pytest.approx(second["score"])
    assert first == {
        "label": "replaced",
        "text": "Shares",
        "start": 4,
        "end": 10,
        "score": pytest.approx(0.9526, abs=1e-4),
    }
    assert second["text"] == "fell"
    assert pipelines["replaced_token"]("shares", threshold=0.99) == []
    assert len(pipelines["replaced_token"]("the shares", threshold=0.0)) == 2


def test_masks_are_filled(pipelines):
    results = pipelines["mlm"]("A [MASK] sleeps.", top_k=2)
    assert [result["token"] for result in results] == ["cat", "dog"]
    assert [result["text"] for result in results] == ["A cat sleeps.", "A dog sleeps."]
    assert 1 > results[0]["score"] > results[1]["score"] > 0
    assert len(pipelines["mlm"]("A [MASK] sleeps.")) == 5


def test_each_mask_of_a_text_is_filled(pipelines):
    text = "[MASK] dog and [MASK] sleeps"
    first, second = pipelines["mlm"]([text, "a [MASK] dog"], top_k=1)[0]
    assert first[0]["text"] == "the dog and [MASK] sleeps"
    assert second[0]["text"] == "[MASK] dog and cat sleeps"


@pytest.mark.parametrize("text", ["no gap", "dog " * 30 + "[MASK]"])
@pytest.mark.filterwarnings("ignore::kzoo.runtime.TruncationWarning")
def test_a_text_without_a_mask(pipelines, text):
    with pytest.raises(KzooError, match=r"has no \[MASK\] within the 16 tokens"):
        pipelines["mlm"](text)


def test_hidden_tokens_are_guessed(pipelines):
    model = pipelines["mlm"]
    texts = ["the dog runs fast", "a cat sleeps", "dog " * 60, ""]
    parts = model.guesses(texts, share=0.5)
    assert len(parts) == 4 and len(parts[2]) == 4 and parts[3] == []
    hidden = sum(part.tokens for part in parts[2])
    assert 15 < hidden < 45
    assert all(part.log_probability < 0 and 0 <= part.right <= part.tokens for part in chain(*parts))
    # Neither the batches nor the other texts change what is hidden, or guessed.
    again = model.guesses([*texts[:3], "another"], share=0.5, batch_size=1)[:3]
    for one, other in zip(chain(*parts), chain(*again), strict=True):
        assert (one.tokens, one.right) == (other.tokens, other.right)
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)
    assert model.guesses(texts, share=0.5, seed=1) != parts
    # The probability is that of the filled-in words.
    ((only,),) = model.guesses(["cat"], share=0.999)
    filled = {result["token"]: result["score"] for result in model("[MASK]", top_k=1000)}
    assert only.tokens == 1 and math.exp(only.log_probability) == pytest.approx(filled["cat"], rel=1e-3)
    with pytest.raises(KzooError, match="share is 0"):
        model.guesses(texts, share=0)


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("the dog runs fast", "dog runs fast"),
        ("A  DOG!", "DOG"),
        ("fast, the cat sleeps", "cat sleeps"),
        ("dog", "dog"),
        ("", ""),
    ],
)
def test_answers_are_parts_of_the_context(pipelines, context, answer):
    result = pipelines["qa"](("who is fast", context))
    assert result["answer"] == answer == context[result["start"] : result["end"]]
    assert 0 <= result["score"] <= 1


def test_answers_have_a_longest_length(pipelines):
    pair = ("who", "the dog runs fast")
    assert pipelines["qa"](pair, max_answer_tokens=2)["answer"] != "dog runs fast"
    with pytest.raises(KzooError, match="max_answer_tokens is 0"):
        pipelines["qa"](pair, max_answer_tokens=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("before", [0, 5, 11, 30, 100])
def test_answers_are_found_anywhere_in_a_long_context(pipelines, before):
    context = "the tree " * before + "the dog runs fast" + " the cat" * 40
    results = pipelines["qa"]([("who", context), ("who", "cat")], batch_size=3)
    assert [result["answer"] for result in results] == ["dog runs fast", "cat"]
    assert results[0]["start"] == 9 * before + 4


def test_a_question_that_leaves_no_room(pipelines):
    with pytest.raises(KzooError, match="The question of pair 1 takes 33 of the model's 16 tokens"):
        pipelines["qa"]([("who", "dog"), ("dog " * 30, "the dog")])


def test_next_sentence_labels(tmp_path):
    from tests.runtime.graphs import write_text_bundle

    pipeline = kzoo.load(write_text_bundle(tmp_path / "b", "next_sentence"))
    assert pipeline(("the dog", "runs"))["label"] in ("next", "random")
    assert len(pipeline(("the dog", "runs"), top_k=2)) == 2
