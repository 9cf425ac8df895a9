"""Each task learns from what its labels look like to a user, with nothing said of losses."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo.errors import KzooError
from tests.conftest import SENTENCES
from tests.models.tiny import tiny

pytestmark = pytest.mark.backend

CONTEXT = "The dog runs in the park."


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def small(family, wordpiece, task, **options):
    return tiny(family, num_layers=1, task=task, tokenizer=wordpiece, **options)


def test_it_learns_to_label_words(wordpiece):
    model = small("Bert", wordpiece, "tokens", num_classes=3)
    texts = [["The", "dog", "runs"], ["A", "cat"]] * 16
    labels = [["O", "B-X", "I-X"], ["O", "B-X"]] * 16
    history = model.fit(texts, labels, epochs=8, batch_size=8, verbose=0).history
    assert model.labels == ["B-X", "I-X", "O"]
    assert set(history) == {"loss", "token_accuracy"}
    assert history["token_accuracy"][-1] > 0.9
    # One text, whether its words were parted or not.
    parted, whole = (model.predict(x, verbose=0)["logits"] for x in (texts[:2], ["The dog runs", "A cat"]))
    np.testing.assert_allclose(parted, whole, atol=1e-5)
    assert parted[0, 1:4].argmax(axis=1).tolist() == [2, 0, 1]


@pytest.mark.slow
def test_it_learns_to_answer(wordpiece):
    model = small("Bert", wordpiece, "qa", hidden_dim=32)
    pairs, answers = [("who", CONTEXT), ("where", CONTEXT)] * 16, [("dog", 4), (16, 24)] * 16
    history = model.fit(pairs, answers, epochs=12, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert "start_logits_accuracy" in history and "end_logits_accuracy" in history
    assert model.predict(pairs[:2], verbose=0).keys() == {"start_logits", "end_logits"}


def test_it_learns_to_guess_masked_tokens(wordpiece):
    model = small("Bert", wordpiece, "mlm")
    history = model.fit(SENTENCES * 8, epochs=12, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    # Left as they are where nothing is to be learnt.
    texts = SENTENCES[:2]
    np.testing.assert_array_equal(
        model.predict(texts, verbose=0)["logits"], model.predict(texts, verbose=0)["logits"]
    )


def test_masks_of_arrays_differ_from_epoch_to_epoch(wordpiece):
    encoding = wordpiece.encode(SENTENCES, max_length=16)

    def losses():
        keras.utils.set_random_seed(1)
        model = small("Bert", wordpiece, "mlm", dropout=0.0, attention_dropout=0.0)
        model.compile(keras.optimizers.SGD(0.0), loss=model.loss)
        return model.fit({"input_ids": encoding.input_ids}, epochs=3, verbose=0).history["loss"]

    # Nothing is learnt at a rate of 0: what differs is what was masked.
    first = losses()
    assert len(set(first)) == 3
    assert losses() == first


@pytest.mark.slow
def test_it_learns_which_sentence_comes_next(wordpiece):
    model = small("Bert", wordpiece, "next_sentence", hidden_dim=32)
    pairs = [("the dog", "runs"), ("the dog", "the bank")] * 16
    history = model.fit(pairs, [0, 1] * 16, epochs=12, batch_size=8, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert model.fit(pairs[:2], ["next", "random"], verbose=0).history["loss"]


@pytest.mark.slow
def test_it_learns_to_find_replaced_tokens(wordpiece):
    model = small("Electra", wordpiece, "replaced_token")
    ids = np.random.default_rng(0).integers(5, 60, (64, 8))
    labels = (ids >= 30).astype("int32")
    labels[:, 0] = -100
    history = model.fit(ids, labels, epochs=16, batch_size=16, verbose=0).history
    assert set(history) == {"loss", "token_accuracy"}
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_embeddings_have_no_loss_of_their_own(wordpiece):
    model = small("Bert", wordpiece, "embedding")
    with pytest.raises(KzooError, match="task='embedding' has no loss of its own: compile the model"):
        model.fit(SENTENCES, verbose=0)
