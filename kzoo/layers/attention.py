"""The one attention: self, cross, causal, grouped and cached (Vaswani et al., 2017, section 3.2)."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from kzoo.layers.dense import Dense
from kzoo.layers.rotary import rotate

_recorder: contextvars.ContextVar[tuple[list[Any], Any] | None] = contextvars.ContextVar(
    "attention_weights", default=None
)


@contextlib.contextmanager
def record_attention(only: Attention | None = None) -> Iterator[list[Any]]:
    """Collect the attention weights of every `Attention` that runs inside the block, in order, or of one of them.

    Yields a list that fills with tensors (batch, num_heads, query_length, key_length), one a layer.
    """
    weights: list[Any] = []
    token = _recorder.set((weights, only))
    try:
        yield weights
    finally:
        _recorder.reset(token)


class KeyValueCache:
    """One layer's keys and values of the tokens seen so far, for decoding a token at a time.

    Args:
        keys: (batch, num_key_value_heads, past, head_dim); `past` is 0 at the first step.
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
        num_heads: number of heads.
        dropout: rate on the attention weights while training.
        num_key_value_heads: heads of keys and values, each shared by as many query heads (Ainslie et al., 2023);
            `num_heads` unless given.
        head_dim: width of a head; `hidden_dim / num_heads` unless given.
        use_bias: whether the projections of queries, keys and values have biases.
        output_bias: whether the output projection has one; as `use_bias` unless given.
        scale: factor on the scores; `1 / sqrt(head_dim)` unless given.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        use_bias: bool = True,
        output_bias: bool | None = None,
        scale: float | None = None,
        **kwargs: Any,
    ) -> None:
        # The bias must reach the scores in float32, not cast to the policy's precision on the way in.
        super().__init__(autocast=False, **kwargs)
        if head_dim is None and hidden_dim % num_heads:
            raise ValueError(f"hidden_dim={hidden_dim} is not a multiple of num_heads={num_heads}.")
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads or num_heads
        if num_heads % self.num_key_value_heads:
            raise ValueError(f"num_heads={num_heads} is not a multiple of {num_key_value_heads=}.")
        self.head_dim = head_dim or hidden_dim // num_heads
        self.scale = 1.0 / math.sqrt(self.head_dim) if scale is None else scale

        def dense(name: str, width: int, bias: bool = use_bias, initializer: Any = "glorot_uniform") -> Dense:
            return Dense(
                width, use_bias=bias, kernel_initializer=initializer, dtype=self.dtype_policy, name=name
            )

        # Whatever the scale, fresh scores are spread alike, so that no key takes all the attention at once.
        even: Any = "glorot_uniform"
        if scale is not None:
            even = keras.initializers.VarianceScaling(1.0 / (scale**2 * self.head_dim), "fan_avg", "uniform")
        self.query = dense("query", num_heads * self.head_dim, initializer=even)
        self.key = dense("key", self.num_key_value_heads * self.head_dim)
        self.value = dense("value", self.num_key_value_heads * self.head_dim)
        self.output_projection = dense("output", hidden_dim, use_bias if output_bias is None else output_bias)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: Any) -> None:
        """Create the four projections."""
        for projection in (self.query, self.key, self.value):
            projection.build((None, None, self.hidden_dim))
        self.output_projection.build((None, None, self.num_heads * self.head_dim))
        self.built = True

    def keys_values(
        self, x: Any, cache: KeyValueCache | None = None, rotation: tuple[Any, Any] | None = None
    ) -> tuple[Any, Any]:
        """Return keys and values (batch, num_key_value_heads, length, head_dim) of `x` (batch, length, hidden_dim).

        With a cache, those of `x` are appended to it, and all that it then holds are returned. A `rotation` by
        `kzoo.layers.rotary_rotation` turns the keys of `x`.
        """
        keys = self._split_heads(self.key(x), self.num_key_value_heads)
        values = self._split_heads(self.value(x), self.num_key_value_heads)
        if rotation is not None:
            keys = rotate(keys, rotation)
        return cache.extend(keys, values) if cache is not None else (keys, values)

    def call(
        self,
        x: Any,
        keys: Any,
        values: Any,
        bias: Any = None,
        rotation: tuple[Any, Any] | None = None,
        training: bool = False,
    ) -> Any:
        """Attend from `x` (batch, query_length, hidden_dim) to keys and values, and return its shape.

        `bias`, broadcast to (batch, num_heads, query_length, key_length), is added to the scores; `rotation` turns
        the queries.
        """
        query = self._split_heads(self.query(x), self.num_heads)
        if rotation is not None:
            query = rotate(query, rotation)
        attend = self._attend_fused if self._can_fuse(training) else self._attend
        return self.output_projection(attend(query, keys, values, bias, training))

    def _attend(self, query: Any, keys: Any, values: Any, bias: Any, training: bool) -> Any:
        """Return the heads' results side by side (batch, query_length, num_heads * head_dim)."""
        weights = self.attention_weights(query, keys, bias)
        if (recorded := self.recorder()) is not None:
            recorded.append(weights)
        weights = self.dropout(weights, training=training)
        attended = self._ungrouped(ops.matmul(self._grouped(weights), values), query)
        return self._merge_heads(attended)

    def recorder(self) -> list[Any] | None:
        """Return the list of the `record_attention` that this runs inside of, if it is recorded."""
        found = _recorder.get()
        return found[0] if found is not None and found[1] in (None, self) else None

    def attention_weights(self, query: Any, keys: Any, bias: Any) -> Any:
        """Return how much each query takes of each key (batch, num_heads, query_length, key_length)."""
        if self.scale != 1.0:
            query = query * self.scale
        scores = self._ungrouped(ops.matmul(self._grouped(query), ops.transpose(keys, (0, 1, 3, 2))), query)
        # float32 whatever the policy: the bias of hidden keys does not fit in float16.
        scores = ops.cast(scores, "float32")
        if bias is not None:
            scores = scores + bias
        return ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)

    def _can_fuse(self, training: bool) -> bool:
        # torch's fused kernel takes half the time of the products one by one; the other backends have none on CPUs,
        # and their compilers make no less of the products. It gives no weights to record or drop, and adds the bias
        # in the policy's precision.
        return (
            keras.backend.backend() == "torch"
            and self.num_key_value_heads == self.num_heads
            and self.compute_dtype == "float32"
            and self.recorder() is None
            and not (training and self.dropout.rate)
        )

    def _attend_fused(self, query: Any, keys: Any, values: Any, bias: Any, training: bool) -> Any:
        import torch

        # Not through `ops.dot_product_attention`, which copies all three into another order first.
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=bias, scale=self.scale
        )
        return self._merge_heads(attended)

    def _split_heads(self, x: Any, num_heads: int) -> Any:
        length = ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (-1, length, num_heads, self.head_dim)), (0, 2, 1, 3))

    def _merge_heads(self, x: Any) -> Any:
        length = ops.shape(x)[2]
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, length, self.num_heads * self.head_dim))

    # Query heads that share keys and values become one head with more queries, so that nothing is repeated.

    def _grouped(self, x: Any) -> Any:
        if self.num_key_value_heads == self.num_heads:
            return x
        _, heads, length, width = ops.shape(x)
        group = heads // self.num_key_value_heads
        return ops.reshape(x, (-1, self.num_key_value_heads, group * length, width))

    def _ungrouped(self, x: Any, query: Any) -> Any:
        if self.num_key_value_heads == self.num_heads:
            return x
        return ops.reshape(x, (-1, self.num_heads, ops.shape(query)[2], ops.shape(x)[3]))
