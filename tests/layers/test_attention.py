"""The one attention against a few lines of numpy, its masks, and its cache."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    KeyValueCache,
    causal_bias,
    combine_biases,
    padding_bias,
    record_attention,
)

pytestmark = pytest.mark.backend


def numpy_of(x):
    return ops.convert_to_numpy(x)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.fixture
def attention():
    layer = Attention(12, 3)
    layer.build(None)
    rng = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape).astype("float32") * 0.5)
    return layer


def attend(layer, x, source=None, bias=None):
    keys, values = layer.keys_values(ops.convert_to_tensor(x if source is None else source))
    return numpy_of(layer(ops.convert_to_tensor(x), keys, values, bias=bias))


def by_hand(layer, x, source, hidden):
    """Attend one head after another; `hidden` is True where a query may not see a key."""
    weights = {variable.path.split("/", 1)[1]: numpy_of(variable.value) for variable in layer.weights}

    def project(name, x):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    heads = []
    for head in range(3):
        columns = slice(4 * head, 4 * head + 4)
        q, k, v = (project(n, t)[..., columns] for n, t in [("query", x), ("key", source), ("value", source)])
        scores = np.where(hidden, -np.inf, q @ k.transpose(0, 2, 1) / math.sqrt(4))
        heads.append(softmax(scores) @ v)
    return project("output", np.concatenate(heads, axis=-1))


X = np.random.default_rng(1).normal(size=(2, 5, 12)).astype("float32")
MEMORY = np.random.default_rng(2).normal(size=(2, 7, 12)).astype("float32")


def test_self_attention(attention):
    np.testing.assert_allclose(attend(attention, X), by_hand(attention, X, X, False), atol=1e-5)


def test_cross_attention(attention):
    expected = by_hand(attention, X, MEMORY, False)
    np.testing.assert_allclose(attend(attention, X, MEMORY), expected, atol=1e-5)


def test_padding_and_causal_masks_together(attention):
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    hidden = np.triu(np.ones((5, 5), bool), 1) | (mask[:, None] == 0)
    bias = combine_biases(causal_bias(5, 5), padding_bias(mask))
    np.testing.assert_allclose(attend(attention, X, bias=bias), by_hand(attention, X, X, hidden), atol=1e-5)


def test_what_is_hidden_has_no_weight_at_all(attention):
    bias = padding_bias(np.array([[1, 1, 1, 0, 0]] * 2))
    with record_attention() as recorded:
        attend(attention, 100 * X, bias=bias)
    (weights,) = recorded
    assert weights.shape == (2, 3, 5, 5)
    assert numpy_of(weights)[..., 3:].max() == 0.0


def test_a_row_that_sees_nothing_attends_evenly(attention):
    bias = padding_bias(np.zeros((2, 5)))
    with record_attention() as recorded:
        assert np.isfinite(attend(attention, X, bias=bias)).all()
    np.testing.assert_allclose(numpy_of(recorded[0]), 0.2, atol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_hidden_keys_stay_hidden_in_half_precision(dtype):
    layer = Attention(12, 3, dtype=dtype)
    layer.build(None)
    x = ops.cast(X, layer.compute_dtype)
    keys, values = layer.keys_values(x)
    with record_attention() as recorded:
        y = layer(x, keys, values, bias=padding_bias(np.array([[1, 1, 1, 0, 0], [0] * 5])))
    weights = numpy_of(ops.cast(recorded[0], "float32"))
    assert weights[0, ..., 3:].max() == 0.0
    assert np.isfinite(numpy_of(ops.cast(y, "float32"))).all()


def test_a_cache_gives_what_the_whole_gives(attention):
    whole = attend(attention, X, bias=causal_bias(5, 5))
    cache = KeyValueCache(ops.zeros((2, 3, 0, 4)), ops.zeros((2, 3, 0, 4)))
    pieces = []
    for start, end in [(0, 2), (2, 3), (3, 5)]:
        x = ops.convert_to_tensor(X[:, start:end])
        keys, values = attention.keys_values(x, cache)
        pieces.append(numpy_of(attention(x, keys, values, bias=causal_bias(end - start, end))))
        assert cache.length == end
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_dropout_only_while_training():
    layer = Attention(12, 3, dropout=0.5)
    layer.build(None)
    x = ops.convert_to_tensor(X)
    keys, values = layer.keys_values(x)
    still, dropped = (numpy_of(layer(x, keys, values, training=training)) for training in (False, True))
    np.testing.assert_array_equal(still, numpy_of(layer(x, keys, values)))
    assert np.abs(still - dropped).max() > 1e-3


def test_nothing_is_recorded_outside_the_block(attention):
    with record_attention() as recorded:
        attend(attention, X)
        with record_attention() as inner:
            attend(attention, X)
    attend(attention, X)
    assert (len(recorded), len(inner)) == (1, 1)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_dim=10 is not a multiple of num_heads=4"):
        Attention(10, 4)


def test_the_config_makes_the_same_layer():
    layer = Attention(12, 3, dropout=0.25, name="mine", dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.hidden_dim, again.num_heads, again.dropout.rate) == (12, 3, 0.25)
    assert (again.name, again.dtype_policy.name) == ("mine", "mixed_bfloat16")
