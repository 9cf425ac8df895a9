"""The one Transformer block: pre- or post-norm, with or without cross-attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kzoo.layers import norms
from kzoo.layers.attention import Attention, KeyValueCache
from kzoo.layers.checkpointing import recomputed
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.residuals import LayerScale, StochasticDepth


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
        norm: one of `kzoo.layers.NORMS`.
        layer_norm_epsilon: added to the variance in each norm.
        num_key_value_heads: heads of keys and values; see `Attention`.
        head_dim: width of a head; see `Attention`.
        use_bias: whether the feed-forward network has biases, and attention too unless told otherwise.
        attention_bias: whether the projections of queries, keys and values have biases.
        attention_output_bias: whether attention's output projection has one.
        attention_scale: factor on the scores; see `Attention`.
        gated: whether the feed-forward network is gated; see `FeedForward`.
        layer_scale: what a learned factor on each sub-layer's output starts as; None for no such factor.
        dropout: rate on each sub-layer's output while training.
        attention_dropout: rate on the attention weights while training.
        activation_dropout: rate inside the feed-forward network while training.
        drop_path: share of examples for which a sub-layer is left out while training.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        activation: str = "gelu",
        norm_first: bool = False,
        cross_attention: bool = False,
        norm: str = "layer",
        layer_norm_epsilon: float = 1e-12,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        use_bias: bool = True,
        attention_bias: bool | None = None,
        attention_output_bias: bool | None = None,
        attention_scale: float | None = None,
        gated: bool = False,
        layer_scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        drop_path: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # as in Attention, for the biases' sake
        self.hidden_dim = hidden_dim
        self.norm_first = norm_first
        self.gradient_checkpointing = False  # a model sets it for all of its blocks
        policy = self.dtype_policy

        def make_norm(name: str) -> keras.layers.Layer:
            return norms.norm(norm, layer_norm_epsilon, dtype=policy, name=name)

        def make_scale(name: str) -> Any:
            return (
                None if layer_scale is None else LayerScale(hidden_dim, layer_scale, dtype=policy, name=name)
            )

        def make_attention(name: str) -> Attention:
            return Attention(
                hidden_dim,
                num_heads,
                dropout=attention_dropout,
                num_key_value_heads=num_key_value_heads,
                head_dim=head_dim,
                use_bias=use_bias if attention_bias is None else attention_bias,
                output_bias=use_bias if attention_output_bias is None else attention_output_bias,
                scale=attention_scale,
                dtype=policy,
                name=name,
            )

        self.attention = make_attention("attention")
        self.attention_norm = make_norm("attention_norm")
        self.attention_scale = make_scale("attention_scale")
        self.cross_attention: Any = make_attention("cross_attention") if cross_attention else None
        self.cross_attention_norm: Any = make_norm("cross_attention_norm") if cross_attention else None
        self.cross_attention_scale: Any = make_scale("cross_attention_scale") if cross_attention else None
        self.feed_forward = FeedForward(
            hidden_dim,
            intermediate_dim,
            activation,
            gated=gated,
            use_bias=use_bias,
            dropout=activation_dropout,
            dtype=policy,
            name="feed_forward",
        )
        self.feed_forward_norm = make_norm("feed_forward_norm")
        self.feed_forward_scale = make_scale("feed_forward_scale")
        self.dropout = keras.layers.Dropout(dropout, dtype=policy, name="dropout")
        self.drop_path = StochasticDepth(drop_path, dtype=policy, name="drop_path")

    def build(self, input_shape: Any) -> None:
        """Create the sub-layers' weights."""
        for layer in self._flatten_layers(include_self=False, recursive=False):
            if not layer.built:
                layer.build((None, None, self.hidden_dim))
        self.built = True

    def call(
        self,
        x: Any,
        bias: Any = None,
        memory: Any = None,
        memory_bias: Any = None,
        cache: KeyValueCache | None = None,
        rotation: tuple[Any, Any] | None = None,
        fold: tuple[Any, Any] | None = None,
        training: bool = False,
    ) -> Any:
        """Return `x` (batch, length, hidden_dim) after the block.

        Args:
            x: (batch, length, hidden_dim).
            bias: added to the self-attention scores; see `kzoo.layers.padding_bias` and `causal_bias`.
            memory: keys and values made by this block's `cross_attention.keys_values`.
            memory_bias: added to the cross-attention scores.
            cache: the past that self-attention sees, extended by this call.
            rotation: turns self-attention's queries and keys; see `kzoo.layers.rotary_rotation`.
            fold: number of rows of the memory and length of `x`, where each row of the memory serves as many rows of
                `x`, one after another; None where each row of `x` has its own.
            training: whether dropout is on.
        """
        arguments = (x, bias, memory, memory_bias, cache, rotation, fold, training)
        if self.gradient_checkpointing and training:
            return recomputed(self, self._run, *arguments)
        return self._run(*arguments)

    def _run(
        self,
        x: Any,
        bias: Any,
        memory: Any,
        memory_bias: Any,
        cache: Any,
        rotation: Any,
        fold: tuple[Any, Any] | None,
        training: bool,
    ) -> Any:
        inner = self._enter(x, self.attention_norm)
        keys, values = self.attention.keys_values(inner, cache, rotation)
        inner = self.attention(inner, keys, values, bias=bias, rotation=rotation, training=training)
        x = self._leave(x, inner, self.attention_scale, self.attention_norm, training)

        if self.cross_attention is not None:
            inner = self._enter(x, self.cross_attention_norm)
            keys, values = memory
            if fold is not None:
                # Rows that share a memory become one row with more queries, so that no memory is repeated.
                inner = ops.reshape(inner, (fold[0], -1, self.hidden_dim))
            inner = self.cross_attention(inner, keys, values, bias=memory_bias, training=training)
            if fold is not None:
                inner = ops.reshape(inner, (-1, fold[1], self.hidden_dim))
            x = self._leave(x, inner, self.cross_attention_scale, self.cross_attention_norm, training)

        inner = self.feed_forward(self._enter(x, self.feed_forward_norm), training=training)
        return self._leave(x, inner, self.feed_forward_scale, self.feed_forward_norm, training)

    def _enter(self, x: Any, norm: keras.layers.Layer) -> Any:
        return norm(x) if self.norm_first else x

    def _leave(self, x: Any, inner: Any, scale: Any, norm: keras.layers.Layer, training: bool) -> Any:
        inner = self.dropout(inner, training=training)
        if scale is not None:
            inner = scale(inner)
        total = x + self.drop_path(inner, training=training)
        return total if self.norm_first else norm(total)
