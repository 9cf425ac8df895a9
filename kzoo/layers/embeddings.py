"""Token embeddings whose table also serves as the output projection."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_scaled: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar(
    "scaled_embeddings", default=None
)


@contextlib.contextmanager
def scale_embeddings(table: TokenEmbedding, scale: Any) -> Iterator[None]:
    """Multiply what a table gives for each token inside the block, by `scale` (batch, length)."""
    token = _scaled.set((table, scale))
    try:
        yield
    finally:
        _scaled.reset(token)


@keras.saving.register_keras_serializable("kzoo")
class TokenEmbedding(keras.layers.Embedding):
    """An embedding table that can be read backwards: hidden states to logits (Press and Wolf, 2016).

    Args:
        vocab_size: number of tokens.
        hidden_dim: width of each vector.
        initializer_stddev: standard deviation of the truncated normal initialization.
    """

    def __init__(
        self, vocab_size: int, hidden_dim: int, initializer_stddev: float = 0.02, **kwargs: Any
    ) -> None:
        initializer = keras.initializers.TruncatedNormal(stddev=initializer_stddev)
        super().__init__(vocab_size, hidden_dim, embeddings_initializer=initializer, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Return the vectors (batch, length, hidden_dim) of token ids (batch, length)."""
        vectors = super().call(inputs)
        table, scale = _scaled.get() or (None, None)
        if table is not self:
            return vectors
        return vectors * ops.expand_dims(ops.cast(scale, vectors.dtype), -1)

    def logits(self, x: Any) -> Any:
        """Return logits (..., vocab_size) of hidden states `x` (..., hidden_dim)."""
        return ops.matmul(x, ops.transpose(ops.cast(self.embeddings, x.dtype)))
