"""Relative biases against the public references, over many distances."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import RelativePositionBias, alibi_bias
from tests.optional import require

pytestmark = pytest.mark.backend


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(32, 3)).astype("float32")


def relative_bias(table, query_length, key_length, **knobs):
    layer = RelativePositionBias(table.shape[1], num_buckets=len(table), **knobs)
    layer.build()
    layer.embeddings.assign(table)
    return ops.convert_to_numpy(layer(query_length, key_length))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"num_buckets": 14, "max_distance": 50}], ids=["t5", "odd"])
def test_buckets_against_the_reference(bidirectional, sizes):
    torch, transformers = require("torch"), require("transformers")
    bucket = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    distances = np.arange(-300, 301)
    theirs = bucket(torch.as_tensor(-distances), bidirectional=bidirectional, **sizes)
    layer = RelativePositionBias(1, bidirectional=bidirectional, **sizes)
    ours = layer._buckets(ops.convert_to_tensor(distances.astype("int32")))
    np.testing.assert_array_equal(ops.convert_to_numpy(ours), theirs.numpy())


def test_biases_are_looked_up_by_key_minus_query(table):
    bias = relative_bias(table, 4, 4)
    assert bias.shape == (1, 3, 4, 4)
    np.testing.assert_array_equal(bias[0, :, 2, 2], table[0])
    np.testing.assert_array_equal(bias[0, :, 2, 0], table[2])
    np.testing.assert_array_equal(bias[0, :, 0, 2], table[16 + 2])
    one_way = relative_bias(table, 4, 4, bidirectional=False)
    np.testing.assert_array_equal(one_way[0, :, 3, 0], table[3])
    np.testing.assert_array_equal(one_way[0, :, 0, 3], table[0])


def test_a_step_has_the_last_rows_of_the_whole(table):
    whole = relative_bias(table, 40, 40, bidirectional=False)
    np.testing.assert_array_equal(relative_bias(table, 2, 40, bidirectional=False), whole[:, :, -2:])


@pytest.mark.parametrize("num_heads", [1, 3, 8, 12])
def test_alibi_against_the_reference(num_heads):
    torch, transformers = require("torch"), require("transformers")
    build = transformers.models.bloom.modeling_bloom.build_alibi_tensor
    theirs = build(torch.ones(1, 9, dtype=torch.int64), num_heads, torch.float32).numpy()
    ours = ops.convert_to_numpy(alibi_bias(num_heads, 9, 9))
    assert ours.shape == (1, num_heads, 9, 9)
    # Theirs is without a term of each query's own, which softmax does not see.
    expected = (
        theirs[None] - np.diagonal(np.broadcast_to(theirs, (num_heads, 9, 9)), 0, 1, 2)[None, :, :, None]
    )
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(alibi_bias(num_heads, 2, 9)), ours[:, :, -2:])
