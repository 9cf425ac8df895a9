"""Activations by name, and the network around them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import ACTIVATIONS, FeedForward, activation

pytestmark = pytest.mark.backend

X = np.linspace(-4, 4, 33).astype("float32")
FORMULAS = {
    "relu": np.maximum(X, 0),
    "gelu": X * 0.5 * (1 + np.array([math.erf(x / math.sqrt(2)) for x in X])),
    "gelu_tanh": 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
    "gelu_quick": X / (1 + np.exp(-1.702 * X)),
    "silu": X / (1 + np.exp(-X)),
    "tanh": np.tanh(X),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_their_formulas(name):
    got = ops.convert_to_numpy(activation(name)(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(got, FORMULAS[name], atol=1e-6)


def test_every_activation_has_its_formula_here():
    assert set(FORMULAS) == set(ACTIVATIONS)


def test_the_gelus_differ():
    assert np.abs(FORMULAS["gelu"] - FORMULAS["gelu_tanh"]).max() > 1e-4
    assert np.abs(FORMULAS["gelu"] - FORMULAS["gelu_quick"]).max() > 1e-3


def test_an_unknown_activation():
    with pytest.raises(KzooError, match=r"Unknown activation 'geul'\. Did you mean 'gelu'"):
        FeedForward(4, 8, activation="geul")


def test_expand_activate_contract():
    layer = FeedForward(4, 7, activation="relu")
    layer.build(None)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=variable.shape).astype("float32") for variable in layer.weights]
    layer.set_weights(values)
    expand, expand_bias, contract, contract_bias = values
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    expected = np.maximum(x @ expand + expand_bias, 0) @ contract + contract_bias
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


def test_gated_without_biases():
    layer = FeedForward(4, 7, activation="silu", gated=True, use_bias=False)
    layer.build(None)
    rng = np.random.default_rng(0)
    kernels = {variable.path.split("/")[-2]: variable for variable in layer.weights}
    assert set(kernels) == {"gate", "expand", "contract"}
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape).astype("float32"))
    gate, expand, contract = (
        ops.convert_to_numpy(kernels[name].value) for name in ("gate", "expand", "contract")
    )
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    gated = x @ gate
    expected = (gated / (1 + np.exp(-gated)) * (x @ expand)) @ contract
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-4)


def test_dropout_stands_inside_and_only_while_training():
    layer = FeedForward(4, 7, activation="relu", dropout=0.5)
    layer.build(None)
    x = np.ones((8, 3, 4), "float32")
    still = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(still, ops.convert_to_numpy(layer(x, training=False)))
    assert np.abs(ops.convert_to_numpy(layer(x, training=True)) - still).max() > 1e-3
