"""What stands between a sub-layer and the residual stream: factors, and chance."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import LayerScale, StochasticDepth, TransformerBlock

pytestmark = pytest.mark.backend

X = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")


def numpy_of(x):
    return ops.convert_to_numpy(x)


def test_layer_scale_is_a_factor_for_each_channel():
    layer = LayerScale(12, initial=0.25)
    layer.build(None)
    np.testing.assert_allclose(numpy_of(layer(X)), 0.25 * X, atol=1e-6)
    layer.scale.assign(np.arange(12, dtype="float32"))
    np.testing.assert_allclose(numpy_of(layer(X)), np.arange(12) * X, atol=1e-5)


@pytest.mark.parametrize("cross_attention", [False, True])
def test_a_block_whose_factors_are_zero_is_the_residual_stream(cross_attention):
    block = TransformerBlock(12, 3, 20, norm_first=True, layer_scale=0.0, cross_attention=cross_attention)
    block.build(None)
    memory = block.cross_attention.keys_values(ops.convert_to_tensor(X)) if cross_attention else None
    np.testing.assert_array_equal(numpy_of(block(X, memory=memory)), X)
    block.feed_forward_scale.scale.assign(np.eye(12, dtype="float32")[4])
    changed = numpy_of(block(X, memory=memory)) != X
    assert changed[..., 4].all()
    assert not np.delete(changed, 4, axis=-1).any()


def test_stochastic_depth_drops_whole_examples_and_keeps_the_mean():
    x = np.broadcast_to(np.arange(1, 7, dtype="float32"), (4000, 2, 6))
    y = numpy_of(StochasticDepth(0.25, seed=1)(ops.convert_to_tensor(x.copy()), training=True))
    dropped = (y == 0.0).all(axis=(1, 2))
    np.testing.assert_allclose(y[~dropped], x[~dropped] / 0.75, rtol=1e-5)
    assert abs(dropped.mean() - 0.25) < 0.03
    np.testing.assert_allclose(y.mean(axis=0), x[0], rtol=0.05)


def test_stochastic_depth_is_for_training():
    layer = StochasticDepth(0.9)
    np.testing.assert_array_equal(numpy_of(layer(X)), X)
    np.testing.assert_array_equal(numpy_of(layer(X, training=False)), X)


def test_a_block_leaves_out_either_of_its_sub_layers():
    block = TransformerBlock(12, 3, 20, norm_first=True, drop_path=0.5)
    block.build(None)
    x = np.repeat(X[:1], 64, axis=0)
    y = numpy_of(block(ops.convert_to_tensor(x), training=True))
    # Neither, attention alone, feed-forward alone, or both.
    kinds = np.unique(np.round(y.reshape(64, -1), 3), axis=0)
    assert len(kinds) == 4
    assert (np.abs(kinds - np.round(X[0].ravel(), 3)).max(axis=1) < 2e-3).sum() == 1
