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
    rotary_rotation,
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


@pytest.mark.parametrize("num_key_value_heads", [1, 2, 3, 6])
def test_grouped_queries_share_keys_and_values(num_key_value_heads):
    grouped, whole = (Attention(12, 6, num_key_value_heads=n) for n in (num_key_value_heads, 6))
    for layer in (grouped, whole):
        layer.build(None)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=variable.shape).astype("float32") for variable in grouped.weights]
    grouped.set_weights(values)

    def repeated(array):
        heads = array.reshape(*array.shape[:-1], num_key_value_heads, 2)
        return np.repeat(heads, 6 // num_key_value_heads, axis=-2).reshape(*array.shape[:-1], 12)

    shared = [
        repeated(value) if variable.path.split("/")[1] in ("key", "value") else value
        for variable, value in zip(grouped.weights, values, strict=True)
    ]
    whole.set_weights(shared)
    bias = combine_biases(causal_bias(5, 5), padding_bias(np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])))
    with record_attention() as recorded:
        got, expected = attend(grouped, X, bias=bias), attend(whole, X, bias=bias)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(numpy_of(recorded[0]), numpy_of(recorded[1]), atol=1e-5)
    keys, _ = grouped.keys_values(ops.convert_to_tensor(X))
    assert keys.shape == (2, num_key_value_heads, 5, 2)


def test_a_window_hides_what_is_too_far_back(attention):
    distance = np.arange(5)[:, None] - np.arange(5)
    hidden = (distance < 0) | (distance >= 2)
    got = attend(attention, X, bias=causal_bias(5, 5, window=2))
    np.testing.assert_allclose(got, by_hand(attention, X, X, hidden), atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_a_cache_of_grouped_and_turned_keys_gives_what_the_whole_gives(window):
    layer = Attention(12, 3, num_key_value_heads=1, head_dim=6)
    layer.build(None)
    x = ops.convert_to_tensor(X)

    def run(start, end, cache=None):
        rotation = rotary_rotation(ops.expand_dims(ops.arange(start, end), 0), 6)
        keys, values = layer.keys_values(x[:, start:end], cache, rotation)
        bias = causal_bias(end - start, end, window)
        return numpy_of(layer(x[:, start:end], keys, values, bias=bias, rotation=rotation))

    cache = KeyValueCache(ops.zeros((2, 1, 0, 6)), ops.zeros((2, 1, 0, 6)))
    pieces = [run(start, end, cache) for start, end in [(0, 3), (3, 4), (4, 5)]]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), run(0, 5), atol=1e-5)


def test_a_scale_of_its_own(attention):
    doubled = Attention(12, 3, scale=1.0)
    doubled.build(None)
    doubled.set_weights(attention.get_weights())
    doubled.query.kernel.assign(numpy_of(attention.query.kernel) / 2)
    doubled.query.bias.assign(numpy_of(attention.query.bias) / 2)
    np.testing.assert_allclose(attend(doubled, X), attend(attention, X), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "biased"),
    [
        ({}, {"query", "key", "value", "output"}),
        ({"use_bias": False}, set()),
        ({"output_bias": False}, {"query", "key", "value"}),
        ({"use_bias": False, "output_bias": True}, {"output"}),
    ],
)
def test_which_projections_have_biases(options, biased):
    layer = Attention(12, 3, head_dim=7, **options)
    layer.build(None)
    assert {variable.path.split("/")[-2] for variable in layer.weights if variable.name == "bias"} == biased
    assert attend(layer, X).shape == X.shape


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_dim=10 is not a multiple of num_heads=4"):
        Attention(10, 4)
    with pytest.raises(ValueError, match="num_heads=4 is not a multiple of num_key_value_heads=3"):
        Attention(12, 4, num_key_value_heads=3)


def test_the_config_makes_the_same_layer():
    layer = Attention(12, 3, dropout=0.25, name="mine", dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.hidden_dim, again.num_heads, again.dropout.rate) == (12, 3, 0.25)
    assert (again.name, again.dtype_policy.name) == ("mine", "mixed_bfloat16")
