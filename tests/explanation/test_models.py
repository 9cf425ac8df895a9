"""Explanations of Keras models: sums that must hold, values that are known, on any backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.explanation import attention_maps, explain, rollout
from kzoo.layers import TokenEmbedding
from kzoo.runtime.attribution import log_odds
from kzoo.text import Tokenizer
from tests.models.tiny import tiny

TEXTS = ["the dog runs fast", "a cat sleeps on monday", "shares fell in the market"]
TEXT = "the dog sleeps on the market"
LABELS = ["animal", "business", "sport"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS * 3, vocab_size=200)


@pytest.fixture(scope="module")
def bert(tokenizer):
    return classifier("Bert", tokenizer)


def classifier(family, tokenizer, **options):
    """Return a tiny classifier whose weights are large enough for its answers to differ."""
    keras.utils.set_random_seed(1)
    model = tiny(family, tokenizer=tokenizer, **{"task": "classification", "labels": LABELS, **options})
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = random.normal(0, 0.2, variable.shape)
        variable.assign(keras.ops.convert_to_numpy(variable) + noise.astype("float32"))
    return model


def without_words(model, label):
    """Return a label's log odds where the embeddings of words are 0, found without gradients."""
    ids = model.tokenizer.encode([TEXT], max_length=32, offsets=True)
    table = model.backbone.token_embedding.embeddings
    before = keras.ops.convert_to_numpy(table).copy()
    words = ids.input_ids[0][ids.sequence_ids[0] == 0]
    after = before.copy()
    after[words] = 0
    table.assign(after)
    odds = log_odds_of(model, label)
    table.assign(before)
    return odds


def log_odds_of(model, label):
    encoding = model.tokenizer.encode([TEXT], max_length=32)
    logits = model({name: getattr(encoding, name) for name in model.signature()})["logits"]
    exclusive = model.task != "multilabel"
    return float(log_odds(keras.ops.convert_to_numpy(logits), LABELS.index(label), exclusive)[0])


@pytest.mark.parametrize(
    ("family", "task"),
    [
        pytest.param("Bert", "classification", marks=pytest.mark.backend),
        ("Albert", "multilabel"),
        ("Llama", "classification"),
    ],
)
def test_integrated_gradients_are_complete(request, tokenizer, family, task):
    """Their sum is what the words add to the label's log odds."""
    bert = family == "Bert"
    model = request.getfixturevalue("bert") if bert else classifier(family, tokenizer, task=task)
    found = explain(model, TEXT, label="business")
    odds = log_odds_of(model, "business")
    difference = odds - without_words(model, "business")
    assert found.completeness_error < 2e-3 * max(1, abs(difference))
    assert found.weights.sum() == pytest.approx(difference, abs=3e-3 * max(1, abs(difference)))
    assert found.score == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-4)
    assert [word.text for word in found.words] == TEXT.split()


class _Table(keras.layers.Layer):
    def __init__(self, vocab_size):
        super().__init__()
        self.token_embedding = TokenEmbedding(vocab_size, 2)


class _BagOfWords(keras.Model):
    """Adds up the embeddings of all tokens: what a label gains from each is known."""

    task = "classification"
    labels = ("yes", "no")
    max_length = 32

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.backbone = _Table(tokenizer.vocab_size)

    def build(self, input_shape=None):
        self.backbone.token_embedding.build(None)
        self.built = True

    def signature(self):
        return {"input_ids": None}

    def call(self, inputs, training=False):
        return {"logits": keras.ops.sum(self.backbone.token_embedding(inputs["input_ids"]), axis=1)}


@pytest.mark.backend
def test_of_a_sum_each_word_gets_its_own_share(tokenizer):
    model = _BagOfWords(tokenizer)
    model.build()
    table = model.backbone.token_embedding.embeddings
    values = np.random.default_rng(0).normal(size=table.shape).astype("float32")
    table.assign(values)
    own = [values[tokenizer.token_id(word)] for word in TEXT.split()]
    found = explain(model, TEXT, label="no")
    np.testing.assert_allclose(found.weights, [no - yes for yes, no in own], atol=1e-5)
    np.testing.assert_allclose(explain(model, TEXT, "occlusion", "no").weights, found.weights, atol=1e-5)


def test_rollout_is_that_of_the_attention_maps(bert):
    model = bert
    maps = attention_maps(model, TEXT)
    assert maps.shape == (2, 2, 8, 8)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    expected = np.eye(8)
    for layer in maps.mean(axis=1):
        expected = (layer + np.eye(8)) / 2 @ expected
    np.testing.assert_allclose(rollout(model, TEXT), expected, atol=1e-5)
    np.testing.assert_allclose(rollout(model, TEXT).sum(axis=1), 1)
    np.testing.assert_allclose(explain(model, TEXT, "rollout").weights, expected[0, 1:-1], atol=1e-5)


def test_rollout_of_a_decoder_ends_at_the_last_token(tokenizer):
    model = classifier("GPT2", tokenizer)
    found = explain(model, TEXT, "rollout")
    np.testing.assert_allclose(found.weights, rollout(model, TEXT)[-1, 1:-1], atol=1e-6)
    assert rollout(model, TEXT)[0, 1:].max() == 0


def test_a_model_of_two_texts_explains_both(tokenizer):
    model = classifier("Bert", tokenizer, task="next_sentence", labels=None)
    found = explain(model, ("the dog", "a cat sleeps"))
    assert [word.part for word in found.words] == [0, 0, 1, 1, 1]
    with pytest.raises(KzooError, match="takes pairs"):
        explain(model, "the dog")


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("Bert", {"task": "embedding", "labels": None}, "Only labels"),
        ("Bert", {"tokenizer": None}, "no tokenizer"),
    ],
)
def test_what_cannot_be_explained(tokenizer, family, options, message):
    model = tiny(family, **{"tokenizer": tokenizer, "task": "classification", "labels": LABELS, **options})
    with pytest.raises(KzooError, match=message):
        explain(model, TEXT)


def test_kzoo_knows_the_room():
    assert kzoo.explanation.explain is explain
