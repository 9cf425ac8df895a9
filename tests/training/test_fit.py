"""`fit`, `evaluate` and `predict` on whatever a user has, with nothing else said."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.models.tiny import outputs, tiny
from tests.training.sources import BATCH, LABELS, SOURCES, STEPS, TEXTS

pytestmark = pytest.mark.backend


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def arrays(wordpiece):
    encoding = wordpiece.encode(TEXTS, max_length=16)
    return {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}


@pytest.fixture(scope="module")
def compiled(wordpiece):
    """A model compiled once: what a source turns into is all that differs between the tests that share it."""
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize("source", SOURCES)
def test_fit_takes(compiled, arrays, source):
    before, steps = compiled.get_weights(), int(compiled.optimizer.iterations)
    history = compiled.fit(**SOURCES[source](arrays), epochs=2, shuffle=False, verbose=0).history
    assert len(history["loss"]) == 2
    assert np.isfinite(history["loss"]).all()
    assert int(compiled.optimizer.iterations) - steps == 2 * STEPS
    assert any(not np.array_equal(old, new) for old, new in zip(before, compiled.get_weights(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_fit_needs_no_compile(wordpiece, arrays, source):
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece)
    history = model.fit(**SOURCES[source](arrays), epochs=2, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    assert int(model.optimizer.iterations) == 2 * STEPS
    # The rate has gone down to 0 over just these steps: their number was known.
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("source", [name for name in SOURCES if "generator" not in name])
def test_evaluate_and_predict_take(compiled, arrays, source):
    arguments = SOURCES[source](arrays)
    if source == "bare array":
        arrays = {"input_ids": arrays["input_ids"]}
    expected = compiled.evaluate(arrays, np.array(LABELS), batch_size=BATCH, verbose=0)
    assert compiled.evaluate(**arguments, verbose=0) == pytest.approx(expected, abs=1e-4)
    arguments.pop("y", None)
    logits = compiled.predict(**arguments, verbose=0)["logits"]
    assert logits.shape == (len(TEXTS), 2)
    alone = outputs(compiled, {name: value[-1:] for name, value in arrays.items()})["logits"]
    np.testing.assert_allclose(logits[-1:], alone, atol=1e-4)


def test_it_learns_to_classify_texts(wordpiece):
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece)
    texts, names = [f"the {word} runs in the park" for word in ["dog", "cat"]] * 16, ["canine", "feline"] * 16
    history = model.fit(texts, names, epochs=6, batch_size=8, verbose=0).history
    assert model.labels == ["canine", "feline"]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(texts, names, verbose=0)[1] == 1.0
    logits = model.predict(["a dog", "a cat"], verbose=0)["logits"]
    assert logits.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.slow
def test_it_learns_several_labels_each(wordpiece):
    model = tiny("Bert", num_layers=1, task="multilabel", labels=["dog", "park"], tokenizer=wordpiece)
    texts = ["the dog in the park", "a dog", "in the park", "a cat"] * 8
    labels = [["dog", "park"], ["dog"], ["park"], []] * 8
    history = model.fit(texts, labels, epochs=16, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    logits = model.predict(texts[:4], verbose=0)["logits"]
    assert (logits > 0).tolist() == [[True, True], [True, False], [False, True], [False, False]]


@pytest.mark.slow
def test_it_learns_a_number_each(wordpiece):
    model = tiny("Bert", num_layers=1, task="regression", tokenizer=wordpiece)
    texts = ["the dog in the park", "a dog", "in the park", "a cat"] * 8
    history = model.fit(texts, [3.0, 2.0, 1.0, 0.0] * 8, epochs=24, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    numbers = model.predict(texts[:4], verbose=0)["logits"][:, 0]
    assert np.argsort(-numbers).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_it_learns_to_classify_images():
    model = tiny("ViT", num_layers=1, num_classes=2)
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 80, (32, 8, 8, 3))
    images = np.concatenate([dark, 255 - dark]).astype("uint8")
    labels = [0] * 32 + [1] * 32
    history = model.fit(images, labels, epochs=4, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.predict(images[[0, -1]], verbose=0)["logits"].argmax(axis=1).tolist() == [0, 1]


def test_it_learns_to_continue_texts(bpe):
    model = tiny("GPT2", num_layers=1, tokenizer=bpe)
    history = model.fit(["the dog runs in the park"] * 32, epochs=16, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "token_accuracy"}
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["token_accuracy"][-1] > history["token_accuracy"][0] + 0.1


def test_it_learns_to_translate(bpe):
    model = tiny("Transformer", num_layers=1, tokenizer=bpe)
    pairs = {"the dog": "a cat", "the park": "two birds"}
    sources, targets = list(pairs) * 16, list(pairs.values()) * 16
    history = model.fit(sources, targets, epochs=16, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["token_accuracy"][-1] > history["token_accuracy"][0] + 0.1


def test_a_second_fit_trains_again_and_a_continued_one_goes_on(wordpiece):
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece)
    model.fit(TEXTS, LABELS, batch_size=BATCH, verbose=0)
    before = model.get_weights()
    model.fit(TEXTS, LABELS, batch_size=BATCH, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 2 * STEPS
    assert any(not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    model.fit(TEXTS, LABELS, batch_size=BATCH, initial_epoch=2, epochs=3, verbose=0)
    assert int(model.optimizer.iterations) == 3 * STEPS


def test_the_users_own_compile_is_kept(compiled):
    optimizer = compiled.optimizer
    compiled.fit(TEXTS, LABELS, batch_size=BATCH, verbose=0)
    assert compiled.optimizer is optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize("names", [False, True], ids=["ids", "names"])
def test_validation_data(compiled, names):
    labels = ["cat" if label else "dog" for label in LABELS] if names else LABELS
    compiled.labels = ["dog", "cat"]
    held = (["a cat sleeps", "the dog"], labels[1::-1])
    arguments = {"batch_size": BATCH, "verbose": 0}
    history = compiled.fit(TEXTS, labels, validation_data=held, **arguments).history
    loss, accuracy = compiled.evaluate(*held, verbose=0)
    assert history["val_loss"] == pytest.approx([loss], abs=1e-4)
    assert history["val_accuracy"] == pytest.approx([accuracy])


@pytest.mark.parametrize("source", ["tf.data of texts", "PyDataset of texts", "DataLoader of texts"])
def test_validation_datasets(compiled, arrays, source):
    data = SOURCES[source](arrays)["x"]
    history = compiled.fit(TEXTS, LABELS, batch_size=BATCH, validation_data=data, verbose=0).history
    loss = compiled.evaluate(TEXTS, LABELS, batch_size=BATCH, verbose=0)[0]
    assert history["val_loss"] == pytest.approx([loss], abs=1e-4)


@pytest.mark.parametrize("source", ["texts", "numpy texts", "array dict"])
def test_validation_split_takes_the_last_ones(compiled, arrays, source):
    arguments = {**SOURCES[source](arrays), "verbose": 0}
    steps = int(compiled.optimizer.iterations)
    history = compiled.fit(**arguments, validation_split=1 / 3).history
    assert int(compiled.optimizer.iterations) - steps == STEPS - 1
    loss = compiled.evaluate(TEXTS[-BATCH:], LABELS[-BATCH:], verbose=0)[0]
    assert history["val_loss"] == pytest.approx([loss], abs=1e-4)


def test_examples_of_weight_0_teach_nothing(compiled):
    before = compiled.get_weights()
    compiled.fit(TEXTS, LABELS, sample_weight=[0.0] * len(TEXTS), batch_size=BATCH, verbose=0)
    for old, new in zip(before, compiled.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    kept = np.array([1.0] * BATCH + [0.0] * (len(TEXTS) - BATCH))
    weighted = compiled.evaluate(TEXTS, LABELS, sample_weight=kept, batch_size=len(TEXTS), verbose=0)[0]
    alone = compiled.evaluate(TEXTS[:BATCH], LABELS[:BATCH], verbose=0)[0]
    assert weighted * len(TEXTS) == pytest.approx(alone * BATCH, rel=1e-3)


def test_predict_keeps_the_order_of_texts(compiled):
    texts = ["the dog runs in the park and in the old tree", "a cat", "two birds sing", "the bank"]
    logits = compiled.predict(texts, batch_size=2, verbose=0)["logits"]
    for text, row in zip(texts, logits, strict=True):
        np.testing.assert_allclose(compiled.predict([text], verbose=0)["logits"][0], row, atol=1e-4)


def test_predict_joins_sequences_of_different_lengths(wordpiece):
    model = tiny("Bert", num_layers=1, task="features", tokenizer=wordpiece)
    states = model.predict(TEXTS[-2:] + TEXTS[:2], batch_size=2, verbose=0)["last_hidden_state"]
    assert states.shape == (4, 16, 16)


def test_pairs_of_texts(compiled):
    pairs = [("the dog", "a cat"), ("a cat", "the dog")]
    logits = compiled.predict(pairs, verbose=0)["logits"]
    assert np.abs(logits[0] - logits[1]).max() > 1e-6
    assert np.abs(logits[0] - compiled.predict(["the dog a cat"], verbose=0)["logits"][0]).max() > 1e-6


@pytest.mark.slow
def test_mixed_precision_trains(wordpiece):
    model = tiny("Bert", num_layers=1, tokenizer=wordpiece, dtype="mixed_bfloat16")
    losses = model.fit(TEXTS, LABELS, batch_size=BATCH, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
