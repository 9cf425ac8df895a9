"""The Transformer: the encoder-decoder of "Attention Is All You Need" (Vaswani et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import (
    KeyValueCache,
    TokenEmbedding,
    causal_bias,
    check_length,
    padding_bias,
    sinusoids,
)
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class TransformerConfig(Config):
    """The Transformer's numbers; the defaults are `transformer_base`'s. Both sides have `num_layers`."""

    vocab_size: int = 37_000
    hidden_dim: int = 512
    num_layers: int = 6
    num_heads: int = 8
    intermediate_dim: int = 2048
    max_positions: int = 1024
    activation: str = "relu"
    norm_first: bool = False
    layer_norm_epsilon: float = 1e-6
    dropout: float = 0.1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a width that sines and cosines cannot share evenly."""
        super().__post_init__()
        if self.hidden_dim % 2:
            raise KzooError(f"hidden_dim={self.hidden_dim} is odd: half are sines, half are cosines.")


@keras.saving.register_keras_serializable("kzoo")
class Transformer(Backbone):
    """Encoder-decoder Transformer (Vaswani et al., 2017, section 3), one table for both sides' embeddings.

    Returns the decoder's `last_hidden_state` (batch, decoder_sequence, hidden_dim) and
    `encoder_last_hidden_state` (batch, sequence, hidden_dim).
    """

    Config = TransformerConfig
    tasks = ("seq2seq", "features")

    def __init__(self, config: TransformerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.token_embedding = self.add(
            TokenEmbedding,
            "token_embedding",
            config.vocab_size,
            config.hidden_dim,
            initializer_stddev=config.hidden_dim**-0.5,
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.encoder_blocks = self.add_blocks("encoder_block", norm_first=config.norm_first)
        self.decoder_blocks = self.add_blocks(
            "decoder_block", norm_first=config.norm_first, cross_attention=True
        )
        # Pre-norm blocks leave their sum unnormalised (Xiong et al., 2020, section 3).
        self.encoder_norm = self.add_norm("encoder_norm") if config.norm_first else None
        self.decoder_norm = self.add_norm("decoder_norm") if config.norm_first else None

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `input_ids` (batch, sequence) and decode `decoder_input_ids` (batch, decoder_sequence)."""
        encoded = self.encode(inputs, training)
        decoded = self.decode(inputs, self.memories(encoded), training=training)
        return {"last_hidden_state": decoded, "encoder_last_hidden_state": encoded}

    def encode(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Return the encoder's states (batch, sequence, hidden_dim) of `input_ids`."""
        x = self._embed(inputs["input_ids"], 0, training)
        bias = padding_bias(inputs.get("attention_mask"))
        for block in self.encoder_blocks:
            x = block(x, bias=bias, training=training)
        return self.encoder_norm(x) if self.encoder_norm is not None else x

    def memories(self, encoded: Any) -> list[tuple[Any, Any]]:
        """Return what each decoder block attends to: keys and values of the encoder's states."""
        return [block.cross_attention.keys_values(encoded) for block in self.decoder_blocks]

    def decode(
        self,
        inputs: dict[str, Any],
        memories: Sequence[tuple[Any, Any]],
        caches: Sequence[KeyValueCache] | None = None,
        training: bool = False,
    ) -> Any:
        """Return the decoder's states (batch, decoder_sequence, hidden_dim) of `decoder_input_ids`.

        `attention_mask` is the source's. With `caches`, one a block, the tokens come after those held there.
        """
        length = ops.shape(inputs["decoder_input_ids"])[1]
        past = caches[0].length if caches is not None else 0
        x = self._embed(inputs["decoder_input_ids"], past, training)
        bias = causal_bias(length, past + length)
        memory_bias = padding_bias(inputs.get("attention_mask"))
        for block, memory, cache in zip(
            self.decoder_blocks, memories, caches or self.no_caches(), strict=True
        ):
            x = block(x, bias=bias, memory=memory, memory_bias=memory_bias, cache=cache, training=training)
        return self.decoder_norm(x) if self.decoder_norm is not None else x

    def _embed(self, ids: Any, start: Any, training: bool) -> Any:
        length = ops.shape(ids)[1]
        check_length(length, self.config.max_positions)
        x = self.token_embedding(ids) * math.sqrt(self.config.hidden_dim)
        positions = sinusoids(ops.arange(length) + start, self.config.hidden_dim)
        return self.dropout(x + ops.cast(positions, x.dtype), training=training)

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        source = InputSpec(("batch", "sequence"), "int64")
        target = InputSpec(("batch", "decoder_sequence"), "int64")
        return {"input_ids": source, "attention_mask": source, "decoder_input_ids": target}


@register_model
def transformer_tiny(**overrides: Any) -> TransformerModel:
    """4 + 4 layers, 128 wide, 4 heads, 8,000 tokens; 2,349,056 parameters."""
    config = TransformerConfig(
        vocab_size=8_000, hidden_dim=128, num_layers=4, num_heads=4, intermediate_dim=256
    )
    return build(Transformer, config, **overrides)


@register_model
def transformer_base(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 512 wide, 8 heads; 63,082,496 parameters (Vaswani et al., 2017, table 3)."""
    return build(Transformer, TransformerConfig(), **overrides)


@register_model
def transformer_big(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 1024 wide, 16 heads; 214,245,376 parameters (Vaswani et al., 2017, table 3)."""
    config = TransformerConfig(hidden_dim=1024, num_heads=16, intermediate_dim=4096, dropout=0.3)
    return build(Transformer, config, **overrides)
