"""T5: the Transformer with relative positions, in its first form and in version 1.1 (Raffel et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kzoo.layers import RelativePositionBias, TokenEmbedding
from kzoo.models.backbone import Config
from kzoo.models.base import TransformerModel
from kzoo.models.encoder_decoder import SIDES, EncoderDecoder, Side
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class T5Config(Config):
    """T5's numbers; the defaults are `t5_base`'s. A decoder without a number of layers has the encoder's."""

    vocab_size: int = 32_128
    hidden_dim: int = 768
    num_layers: int = 12
    num_decoder_layers: int | None = None
    num_heads: int = 12
    head_dim: int = 64
    intermediate_dim: int = 3072
    num_buckets: int = 32
    max_distance: int = 128
    activation: str = "relu"
    gated: bool = False
    layer_norm_epsilon: float = 1e-6
    tie_embeddings: bool = True
    scale_logits: bool = True
    dropout: float = 0.1

    left_to: ClassVar[dict[str, str]] = {"num_decoder_layers": "num_layers"}
    # T5 has no norm of another kind.
    norm: ClassVar[str] = "rms"


@keras.saving.register_keras_serializable("kzoo")
class T5(EncoderDecoder):
    """T5 (Raffel et al., 2019, section 2.1): pre-norm, no biases, no positions but a bias on the scores.

    The bias is learned for each side, head, and bucket of distances, and shared by all blocks of a side. Returns
    the features that `EncoderDecoder` names.
    """

    Config: ClassVar[type] = T5Config

    def __init__(self, config: T5Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.token_embedding = self.add(
            TokenEmbedding, "token_embedding", config.vocab_size, config.hidden_dim, initializer_stddev=1.0
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        knobs: dict[str, Any] = {
            "norm": config.norm,
            "norm_first": True,
            "use_bias": False,
            "attention_scale": 1.0,
            "attention_dropout": config.dropout,
            "activation_dropout": config.dropout,
        }
        self.encoder_blocks = self.add_blocks("encoder_block", **knobs)
        self.decoder_blocks = self.add_blocks(
            "decoder_block", config.num_decoder_layers, cross_attention=True, **knobs
        )
        self.encoder_norm, self.decoder_norm = self.add_norm("encoder_norm"), self.add_norm("decoder_norm")
        self.relative_biases = {
            side: self.add(
                RelativePositionBias,
                f"{side}_relative_bias",
                config.num_heads,
                config.num_buckets,
                config.max_distance,
                bidirectional=side == "encoder",
            )
            for side in SIDES
        }

    @property
    def logits_scale(self) -> float:
        """What the decoder's states are multiplied with before the output projection."""
        return self.config.hidden_dim**-0.5 if self.config.scale_logits else 1.0

    def embed(self, side: Side, ids: Any, past: Any) -> Any:
        """Return the tokens' vectors alone."""
        return self.token_embedding(ids)

    def position_bias(self, side: Side, length: Any, total: Any) -> Any:
        """Return a float32 bias (1, num_heads, length, total)."""
        return self.relative_biases[side](length, total)

    def leave(self, side: Side, x: Any, training: bool) -> Any:
        """Return the normalised states."""
        return self.dropout(super().leave(side, x, training), training=training)


@register_model
def t5_small(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 512 wide, 8 heads; 60,506,624 parameters."""
    config = T5Config(hidden_dim=512, num_layers=6, num_heads=8, intermediate_dim=2048)
    return build(T5, config, **overrides)


@register_model
def t5_base(**overrides: Any) -> TransformerModel:
    """12 + 12 layers, 768 wide, 12 heads; 222,903,552 parameters."""
    return build(T5, T5Config(), **overrides)


# Version 1.1 (Shazeer, 2020, and the authors' published list of changes): gated GELU, and an output projection of
# its own, which reads the states as they are.
_V1_1: dict[str, Any] = {
    "activation": "gelu_tanh",
    "gated": True,
    "tie_embeddings": False,
    "scale_logits": False,
}


@register_model
def t5_v1_1_small(**overrides: Any) -> TransformerModel:
    """8 + 8 layers, 512 wide, 6 heads; 60,511,616 parameters, and 16,449,536 in the output projection."""
    config = T5Config(hidden_dim=512, num_layers=8, num_heads=6, intermediate_dim=1024, **_V1_1)
    return build(T5, config, **overrides)


@register_model
def t5_v1_1_base(**overrides: Any) -> TransformerModel:
    """12 + 12 layers, 768 wide, 12 heads; 222,903,552 parameters, and 24,674,304 in the output projection."""
    return build(T5, T5Config(intermediate_dim=2048, **_V1_1), **overrides)
