"""GPT-2: the decoder-only Transformer (Radford et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.layers import (
    KeyValueCache,
    PositionEmbedding,
    TokenEmbedding,
    causal_bias,
    check_length,
    combine_biases,
    padding_bias,
    token_positions,
)
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.base import TransformerModel
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
class GPT2(Backbone):
    """GPT-2 decoder (Radford et al., 2019, section 2.3).

    Returns `last_hidden_state` (batch, sequence, hidden_dim).
    """

    Config = GPT2Config
    tasks = ("causal_lm", "features")

    def __init__(self, config: GPT2Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.token_embedding = self.add(
            TokenEmbedding, "token_embedding", config.vocab_size, config.hidden_dim
        )
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", config.max_positions, config.hidden_dim
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.blocks = self.add_blocks("block", norm_first=True)
        self.final_norm = self.add_norm("final_norm")

    def call(
        self,
        inputs: dict[str, Any],
        caches: Sequence[KeyValueCache] | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """Read `input_ids` (batch, sequence), each token seeing itself and those before it.

        With `caches`, one a block, the tokens come after those held there, and `attention_mask`
        (batch, past + sequence) covers both. Padding may stand on either side.
        """
        input_ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        length = ops.shape(input_ids)[1]
        total = length if caches is None else length + caches[0].length
        check_length(total, self.config.max_positions)
        x = self.token_embedding(input_ids) + self.position_embedding(token_positions(length, total, mask))
        x = self.dropout(x, training=training)
        bias = combine_biases(causal_bias(length, total), padding_bias(mask))
        hidden_states = [x]
        for block, cache in zip(self.blocks, caches or self.no_caches(), strict=True):
            x = block(x, bias=bias, cache=cache, training=training)
            hidden_states.append(x)
        return {"last_hidden_state": self.final_norm(x), "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        tokens = InputSpec(("batch", "sequence"), "int64")
        return {"input_ids": tokens, "attention_mask": tokens}


@register_model
def gpt2_small(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 124,439,808 parameters."""
    return build(GPT2, GPT2Config(), **overrides)
