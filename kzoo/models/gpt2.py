"""GPT-2: the decoder-only Transformer (Radford et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.layers import PositionEmbedding
from kzoo.models.backbone import Config
from kzoo.models.base import TransformerModel
from kzoo.models.decoder_only import DecoderOnly
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class GPT2Config(Config):
    """GPT-2's numbers; the defaults are `gpt2_small`'s."""

    vocab_size: int = 50_257
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    max_positions: int = 1024
    activation: str = "gelu_tanh"
    layer_norm_epsilon: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1


@keras.saving.register_keras_serializable("kzoo")
class GPT2(DecoderOnly):
    """GPT-2 decoder (Radford et al., 2019, section 2.3): learned positions, layer norms.

    Returns `last_hidden_state` (batch, sequence, hidden_dim) and `pooled` (batch, hidden_dim), the last token's.
    """

    Config = GPT2Config

    def __init__(self, config: GPT2Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", config.max_positions, config.hidden_dim
        )

    def embed(self, input_ids: Any, positions: Any) -> Any:
        """Return the sum of tokens' and positions' vectors (batch, sequence, hidden_dim)."""
        return self.token_embedding(input_ids) + self.position_embedding(positions)


@register_model
def gpt2_small(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 124,439,808 parameters."""
    return build(GPT2, GPT2Config(), **overrides)


@register_model
def gpt2_medium(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads; 354,823,168 parameters."""
    config = GPT2Config(hidden_dim=1024, num_layers=24, num_heads=16, intermediate_dim=4096)
    return build(GPT2, config, **overrides)


@register_model
def gpt2_large(**overrides: Any) -> TransformerModel:
    """36 layers, 1280 wide, 20 heads; 774,030,080 parameters."""
    config = GPT2Config(hidden_dim=1280, num_layers=36, num_heads=20, intermediate_dim=5120)
    return build(GPT2, config, **overrides)


@register_model
def gpt2_xl(**overrides: Any) -> TransformerModel:
    """48 layers, 1600 wide, 25 heads; 1,557,611,200 parameters."""
    config = GPT2Config(hidden_dim=1600, num_layers=48, num_heads=25, intermediate_dim=6400)
    return build(GPT2, config, **overrides)
