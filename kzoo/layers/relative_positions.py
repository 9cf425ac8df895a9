"""Positions as biases on the attention scores: T5's learned buckets, and ALiBi."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.layers.masks import query_key_distances


@keras.saving.register_keras_serializable("kzoo")
class RelativePositionBias(keras.layers.Layer):
    """A learned bias for each head and each bucket of distances (Raffel et al., 2019, section 2.1).

    Near distances have a bucket each, farther ones share buckets that grow logarithmically.

    Args:
        num_heads: number of heads.
        num_buckets: number of buckets.
        max_distance: distances from this on share the last bucket.
        bidirectional: whether keys after the query have buckets of their own, half of them.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._allow_non_tensor_positional_args = True  # lengths may be plain numbers
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, input_shape: Any = None) -> None:
        """Create the table (num_buckets, num_heads)."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        self.built = True

    def call(self, query_length: Any, key_length: Any) -> Any:
        """Return a float32 bias (1, num_heads, query_length, key_length).

        The queries are the last `query_length` of the keys' positions.
        """
        buckets = self._buckets(query_key_distances(query_length, key_length))
        table = ops.cast(self.embeddings, "float32")
        return ops.expand_dims(ops.transpose(ops.take(table, buckets, axis=0), (2, 0, 1)), 0)

    def _buckets(self, distance: Any) -> Any:
        """Return the bucket of each distance, int32 of the same shape."""
        count = self.num_buckets
        offset: Any = 0
        if self.bidirectional:
            count //= 2
            offset = ops.where(distance < 0, count, 0)
            distance = ops.abs(distance)
        else:
            distance = ops.maximum(distance, 0)
        exact = count // 2
        ratio = ops.cast(ops.maximum(distance, 1), "float32") / exact
        far = ops.log(ratio) / math.log(self.max_distance / exact) * (count - exact)
        far = ops.minimum(exact + ops.cast(far, "int32"), count - 1)
        return ops.cast(offset + ops.where(distance < exact, distance, far), "int32")


def alibi_bias(num_heads: int, query_length: Any, key_length: Any) -> Any:
    """Return a float32 bias (1, num_heads, query_length, key_length) that falls linearly with distance.

    Press et al., 2021, section 3: the slopes are a geometric sequence; for a number of heads that is no power of
    two, every other slope of the next power fills up, as in the authors' code. Later keys are left to
    `causal_bias`.

    Args:
        num_heads: number of heads.
        query_length: number of queries, the last of the keys' positions.
        key_length: number of keys.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    extra = 2.0 ** (-4.0 * np.arange(1, 2 * (num_heads - power) + 1, 2) / power)
    slopes = np.concatenate([slopes, extra]).astype("float32").reshape(1, num_heads, 1, 1)
    distance = ops.cast(query_key_distances(query_length, key_length), "float32")
    return ops.multiply(ops.expand_dims(distance, (0, 1)), -slopes)
