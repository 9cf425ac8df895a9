"""Positions: learned tables and sinusoids."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError


@keras.saving.register_keras_serializable("kzoo")
class PositionEmbedding(keras.layers.Layer):
    """A learned vector for each position.

    Args:
        max_positions: number of positions.
        hidden_dim: width of each vector.
        initializer_stddev: standard deviation of the truncated normal initialization.
    """

    def __init__(
        self, max_positions: int, hidden_dim: int, initializer_stddev: float = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_positions = max_positions
        self.hidden_dim = hidden_dim
        self.initializer = keras.initializers.TruncatedNormal(stddev=initializer_stddev)

    def build(self, input_shape: Any = None) -> None:
        """Create the table (max_positions, hidden_dim)."""
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.max_positions, self.hidden_dim), initializer=self.initializer
        )
        self.built = True

    def call(self, positions: Any) -> Any:
        """Return the vectors (..., hidden_dim) of `positions`, int32 (...)."""
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), positions, axis=0)


def sinusoids(positions: Any, hidden_dim: int) -> Any:
    """Return the sinusoidal encodings float32 (..., hidden_dim) of `positions` (...).

    Vaswani et al., 2017, section 3.5, with the sines in the first half of the channels and the cosines in
    the second, as in the authors' own code: a permutation of the paper's alternating channels.
    """
    half = hidden_dim // 2
    rates = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10_000.0) / half))
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def token_positions(length: Any, total: Any, attention_mask: Any = None) -> Any:
    """Return the positions of the last `length` of `total` tokens, int32 (1, length) or (batch, length).

    Counted over real tokens, so that left padding does not shift a text.

    Args:
        length: number of tokens to place.
        total: those and the ones before them.
        attention_mask: (batch, total), 1 for real tokens; or None.
    """
    if attention_mask is None:
        return ops.expand_dims(ops.arange(length, dtype="int32") + (total - length), 0)
    counts = ops.cumsum(ops.cast(attention_mask, "int32"), axis=1)
    return ops.maximum(counts[:, -length:] - 1, 0)


def check_length(length: Any, max_positions: int, what: str = "sequence") -> None:
    """Raise a KzooError if a known `length` exceeds `max_positions`; a symbolic one passes."""
    if isinstance(length, int) and length > max_positions:
        raise KzooError(
            f"The {what} has {length} tokens, but the model has {max_positions} positions: "
            f"shorten it, or build the model with max_positions={length} or more."
        )
