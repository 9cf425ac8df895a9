"""BART: a Transformer pretrained to mend broken texts (Lewis et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kzoo.layers import PositionEmbedding
from kzoo.models.base import TransformerModel
from kzoo.models.encoder_decoder import SIDES, EncoderDecoderConfig, Side
from kzoo.models.registry import build, register_model
from kzoo.models.transformer import Transformer

# The published tables begin with two rows that no position uses.
_UNUSED_POSITIONS = 2


@dataclass(frozen=True)
class BartConfig(EncoderDecoderConfig):
    """BART's numbers; the defaults are `bart_base`'s."""

    vocab_size: int = 50_265
    hidden_dim: int = 768
    num_heads: int = 12
    intermediate_dim: int = 3072
    activation: str = "gelu"
    scale_embedding: bool = False
    layer_norm_epsilon: float = 1e-5
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1


@keras.saving.register_keras_serializable("kzoo")
class Bart(Transformer):
    """BART (Lewis et al., 2019, section 2.1): learned positions for each side, and embeddings normalised.

    Returns the features that `EncoderDecoder` names.
    """

    Config: ClassVar[type] = BartConfig
    logits_bias: ClassVar[bool] = True

    def __init__(self, config: BartConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        rows = config.max_positions + _UNUSED_POSITIONS
        self.position_embeddings = {
            side: self.add(PositionEmbedding, f"{side}_position_embedding", rows, config.hidden_dim)
            for side in SIDES
        }
        self.embedding_norms = {side: self.add_norm(f"{side}_embedding_norm") for side in SIDES}

    def embed(self, side: Side, ids: Any, past: Any) -> Any:
        """Return the normalised sum of tokens and positions."""
        return self.embedding_norms[side](super().embed(side, ids, past))

    def positions(self, side: Side, positions: Any) -> Any:
        """Return the vectors (length, hidden_dim) of `positions` (length,)."""
        return self.position_embeddings[side](positions + _UNUSED_POSITIONS)


@register_model
def bart_base(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 768 wide, 12 heads; 139,420,416 parameters."""
    return build(Bart, BartConfig(), **overrides)
