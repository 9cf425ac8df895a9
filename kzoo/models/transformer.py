"""The Transformer: the encoder-decoder of "Attention Is All You Need" (Vaswani et al., 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import TokenEmbedding, check_length, sinusoids
from kzoo.models.base import TransformerModel
from kzoo.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Side
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class TransformerConfig(EncoderDecoderConfig):
    """The Transformer's numbers; the defaults are `transformer_base`'s."""

    def __post_init__(self) -> None:
        """Refuse a width that sines and cosines cannot share evenly."""
        super().__post_init__()
        if self.hidden_dim % 2:
            raise KzooError(f"hidden_dim={self.hidden_dim} is odd: half are sines, half are cosines.")


@keras.saving.register_keras_serializable("kzoo")
class Transformer(EncoderDecoder):
    """Encoder-decoder Transformer (Vaswani et al., 2017, section 3), one table for both sides' embeddings.

    Returns the features that `EncoderDecoder` names.
    """

    Config: ClassVar[type] = TransformerConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embedding_scale = math.sqrt(config.hidden_dim) if config.scale_embedding else 1.0
        self.token_embedding = self.add(
            TokenEmbedding,
            "token_embedding",
            config.vocab_size,
            config.hidden_dim,
            initializer_stddev=1.0 / self.embedding_scale if config.scale_embedding else 0.02,
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.encoder_blocks = self.add_blocks("encoder_block")
        numbers = config.knobs()
        self.decoder_blocks = self.add_blocks(
            "decoder_block",
            numbers["num_decoder_layers"],
            cross_attention=True,
            num_heads=numbers["num_decoder_heads"],
            intermediate_dim=numbers["decoder_intermediate_dim"],
        )
        if config.norm_first:
            self.encoder_norm, self.decoder_norm = (
                self.add_norm("encoder_norm"),
                self.add_norm("decoder_norm"),
            )

    def embed(self, side: Side, ids: Any, past: Any) -> Any:
        """Return the sum of tokens and positions."""
        length = ops.shape(ids)[1]
        check_length(length, self.config.max_positions)
        x = self.token_embedding(ids) * self.embedding_scale
        return x + ops.cast(self.positions(side, ops.arange(length) + past), x.dtype)

    def positions(self, side: Side, positions: Any) -> Any:
        """Return the vectors (length, hidden_dim) of `positions` (length,)."""
        return sinusoids(positions, self.config.hidden_dim)


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
