"""The one attention: self, cross, causal and cached (Vaswani et al., 2017, section 3.2)."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_recorded: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar(
    "attention_weights", default=None
)


@contextlib.contextmanager
def record_attention() -> Iterator[list[Any]]:
    """Collect the attention weights of every `Attention` that runs inside the block, in order.

    Yields a list that fills with tensors (batch, num_heads, query_length, key_length), one a layer.
    """
    weights: list[Any] = []
    token = _recorded.set(weights)
    try:
        yield weights
    finally:
        _recorded.reset(token)


class KeyValueCache:
    """One layer's keys and values of the tokens seen so far, for decoding a token at a time.

    Args:
        keys: (batch, num_heads, past, head_dim); `past` is 0 at the first step.
        values: the same shape.
    """

    def __init__(self, keys: Any, values: Any) -> None:
        self.keys = keys
        self.values = values

    @property
    def length(self) -> Any:
        """Number of tokens held, an int or a scalar tensor."""
        return ops.shape(self.keys)[2]

    def extend(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append new tokens' keys and values and return all of them."""
        self.keys = ops.concatenate([self.keys, keys], axis=2)
        self.values = ops.concatenate([self.values, values], axis=2)
        return self.keys, self.values


@keras.saving.register_keras_serializable("kzoo")
class Attention(keras.layers.Layer):
    """Scaled dot-product attention over several heads.

    Queries come from the tensor it is called on; keys and values are made by `keys_values`, from the same
    tensor (self-attention), another one (cross-attention), or a cache. With a bias that hides every key, a
    row attends evenly and stays finite.

    Args:
        hidden_dim: width of inputs and outputs.
        num_heads: number of heads; must divide `hidden_dim`.
        dropout: rate on the attention weights while training.
    """

    def __init__(self, hidden_dim: int, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        # The bias must reach the scores in float32, not cast to the policy's precision on the way in.
        super().__init__(autocast=False, **kwargs)
        if hidden_dim % num_heads:
            raise ValueError(f"hidden_dim={hidden_dim} is not a multiple of num_heads={num_heads}.")
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.query = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name="query")
        self.key = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name="key")
        self.value = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name="value")
        self.output_projection = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name="output")
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: Any) -> None:
        """Create the four projections."""
        shape = (None, None, self.hidden_dim)
        for projection in (self.query, self.key, self.value, self.output_projection):
            projection.build(shape)
        self.built = True

    def keys_values(self, x: Any, cache: KeyValueCache | None = None) -> tuple[Any, Any]:
        """Return keys and values (batch, num_heads, length, head_dim) of `x` (batch, length, hidden_dim).

        With a cache, those of `x` are appended to it, and all that it then holds are returned.
        """
        keys, values = self._split_heads(self.key(x)), self._split_heads(self.value(x))
        return cache.extend(keys, values) if cache is not None else (keys, values)

    def call(self, x: Any, keys: Any, values: Any, bias: Any = None, training: bool = False) -> Any:
        """Attend from `x` (batch, query_length, hidden_dim) to keys and values, and return its shape.

        `bias`, broadcast to (batch, num_heads, query_length, key_length), is added to the scores.
        """
        query = self._split_heads(self.query(x)) * (1.0 / math.sqrt(self.head_dim))
        scores = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2)))
        # float32 whatever the policy: the bias of hidden keys does not fit in float16.
        scores = ops.cast(scores, "float32")
        if bias is not None:
            scores = scores + bias
        weights = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
        if (recorded := _recorded.get()) is not None:
            recorded.append(weights)
        weights = self.dropout(weights, training=training)
        return self.output_projection(self._merge_heads(ops.matmul(weights, values)))

    def _split_heads(self, x: Any) -> Any:
        length = ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (-1, length, self.num_heads, self.head_dim)), (0, 2, 1, 3))

    def _merge_heads(self, x: Any) -> Any:
        length = ops.shape(x)[2]
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, length, self.hidden_dim))
