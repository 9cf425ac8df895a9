"""`fit`, `evaluate` and `predict` on whatever a user has, with nothing else said."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo.errors import KzooError
from tests.models.tiny import FAMILIES, make_inputs, outputs, tiny
from tests.training.sources import BATCH, LABELS, SOURCES, STEPS, TEXTS

pytestmark = pytest.mark.backend


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
