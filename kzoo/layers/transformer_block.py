"""The one Transformer block: pre- or post-norm, with or without cross-attention."""

from __future__ import annotations

from typing import Any

import keras

from kzoo.layers.attention import Attention, KeyValueCache
from kzoo.layers.feed_forward import FeedForward


@keras.saving.register_keras_serializable("kzoo")
class TransformerBlock(keras.layers.Layer):
    """Attention, optionally cross-attention, and feed-forward, each with a residual and a norm.

    Args:
        hidden_dim: width of inputs and outputs.
        num_heads: attention heads.
        intermediate_dim: width inside the feed-forward network.
        activation: one of `kzoo.layers.ACTIVATIONS`.
        norm_first: normalise what enters each sub-layer (pre-norm) rather than each sum (post-norm).
        cross_attention: attend to an encoder's output between self-attention and feed-forward.
        layer_norm_epsilon: added to the variance in each norm.
        dropout: rate on each sub-layer's output while training.
        attention_dropout: rate on the attention weights while training.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        activation: str = "gelu",
        norm_first: bool = False,
        cross_attention: bool = False,
        layer_norm_epsilon: float = 1e-12,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # as in Attention, for the biases' sake
        self.hidden_dim = hidden_dim
        self.norm_first = norm_first
        policy = self.dtype_policy

        def norm(name: str) -> keras.layers.Layer:
            return keras.layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy, name=name)

        def attention(name: str) -> Attention:
            return Attention(hidden_dim, num_heads, attention_dropout, dtype=policy, name=name)

        self.attention = attention("attention")
        self.attention_norm = norm("attention_norm")
        self.cross_attention: Any = attention("cross_attention") if cross_attention else None
        self.cross_attention_norm: Any = norm("cross_attention_norm") if cross_attention else None
        self.feed_forward = FeedForward(
            hidden_dim, intermediate_dim, activation, dtype=policy, name="feed_forward"
        )
        self.feed_forward_norm = norm("feed_forward_norm")
        self.dropout = keras.layers.Dropout(dropout, dtype=policy, name="dropout")

    def build(self, input_shape: Any) -> None:
        """Create the sub-layers' weights."""
        shape = (None, None, self.hidden_dim)
        for layer in (
            self.attention,
            self.attention_norm,
            self.cross_attention,
            self.cross_attention_norm,
            self.feed_forward,
            self.feed_forward_norm,
        ):
            if layer is not None:
                layer.build(shape)
        self.built = True

    def call(
        self,
        x: Any,
        bias: Any = None,
        memory: Any = None,
        memory_bias: Any = None,
        cache: KeyValueCache | None = None,
        training: bool = False,
    ) -> Any:
        """Return `x` (batch, length, hidden_dim) after the block.

        Args:
            x: (batch, length, hidden_dim).
            bias: added to the self-attention scores; see `kzoo.layers.padding_bias` and `causal_bias`.
            memory: keys and values made by this block's `cross_attention.keys_values`.
            memory_bias: added to the cross-attention scores.
            cache: the past that self-attention sees, extended by this call.
            training: whether dropout is on.
        """
        inner = self._enter(x, self.attention_norm)
        keys, values = self.attention.keys_values(inner, cache)
        inner = self.attention(inner, keys, values, bias=bias, training=training)
        x = self._leave(x, inner, self.attention_norm, training)

        if self.cross_attention is not None:
            inner = self._enter(x, self.cross_attention_norm)
            keys, values = memory
            inner = self.cross_attention(inner, keys, values, bias=memory_bias, training=training)
            x = self._leave(x, inner, self.cross_attention_norm, training)

        inner = self.feed_forward(self._enter(x, self.feed_forward_norm))
        return self._leave(x, inner, self.feed_forward_norm, training)

    def _enter(self, x: Any, norm: keras.layers.Layer) -> Any:
        return norm(x) if self.norm_first else x

    def _leave(self, x: Any, inner: Any, norm: keras.layers.Layer, training: bool) -> Any:
        total = x + self.dropout(inner, training=training)
        return total if self.norm_first else norm(total)
