"""The one block: where its norms stand, and what its memory and cache do."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import TokenEmbedding, TransformerBlock

pytestmark = pytest.mark.backend

X = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")


def make(**knobs):
    block = TransformerBlock(hidden_dim=12, num_heads=3, intermediate_dim=20, **knobs)
    block.build(None)
    return block


def test_post_norm_output_is_normalised():
    y = ops.convert_to_numpy(make(norm_first=False)(X))
    np.testing.assert_allclose(y.mean(axis=-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=-1), 1.0, atol=1e-3)


def test_pre_norm_leaves_the_residual_stream_alone():
    block = make(norm_first=True)
    for layer in (block.attention.output_projection, block.feed_forward.contract):
        layer.kernel.assign(np.zeros(layer.kernel.shape, "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(block(X)), X)


@pytest.mark.parametrize("norm_first", [False, True])
def test_memory_reaches_the_output_and_its_bias_hides_it(norm_first):
    block = make(norm_first=norm_first, cross_attention=True)
    memories = [np.random.default_rng(seed).normal(size=(2, 4, 12)).astype("float32") for seed in (1, 2)]
    memories[1][:, :3] = memories[0][:, :3]

    def decode(memory, hide_last):
        bias = np.zeros((2, 1, 1, 4), "float32")
        bias[..., -1] = -1e9 if hide_last else 0.0
        keys_values = block.cross_attention.keys_values(ops.convert_to_tensor(memory))
        return ops.convert_to_numpy(block(X, memory=keys_values, memory_bias=bias))

    seen = [decode(memory, hide_last=False) for memory in memories]
    hidden = [decode(memory, hide_last=True) for memory in memories]
    assert np.abs(seen[0] - seen[1]).max() > 1e-3
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-6)


def test_epsilon_is_honoured():
    tiny_differences = X * 1e-4
    loose, strict = (make(layer_norm_epsilon=epsilon) for epsilon in (1.0, 1e-12))
    strict.set_weights(loose.get_weights())
    assert np.abs(ops.convert_to_numpy(loose(tiny_differences))).max() < 0.1
    assert np.abs(ops.convert_to_numpy(strict(tiny_differences))).max() > 1.0


def test_tied_logits_are_products_with_the_table():
    embedding = TokenEmbedding(7, 12)
    embedding.build(None)
    table = ops.convert_to_numpy(embedding.embeddings.value)
    np.testing.assert_allclose(ops.convert_to_numpy(embedding.logits(X)), X @ table.T, atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(embedding(np.array([3, 0]))), table[[3, 0]])
