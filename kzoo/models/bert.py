"""BERT: the encoder-only Transformer (Devlin et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.layers import PositionEmbedding, TokenEmbedding, check_length, padding_bias
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class BertConfig(Config):
    """BERT's numbers; the defaults are `bert_base`'s."""

    vocab_size: int = 30_522
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    max_positions: int = 512
    type_vocab_size: int = 2
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1


@keras.saving.register_keras_serializable("kzoo")
class Bert(Backbone):
    """BERT encoder (Devlin et al., 2018, section 3).

    Returns `last_hidden_state` (batch, sequence, hidden_dim) and `pooled` (batch, hidden_dim).
    """

    Config = BertConfig
    tasks = ("classification", "multilabel", "embedding", "features")

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.token_embedding = self.add(
            TokenEmbedding, "token_embedding", config.vocab_size, config.hidden_dim
        )
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", config.max_positions, config.hidden_dim
        )
        self.type_embedding = self.add(
            TokenEmbedding, "type_embedding", config.type_vocab_size, config.hidden_dim
        )
        self.embedding_norm = self.add_norm("embedding_norm")
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.blocks = self.add_blocks("block", norm_first=False)
        self.pooler = self.add(keras.layers.Dense, "pooler", config.hidden_dim, activation="tanh")

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `input_ids` (batch, sequence), with optional `attention_mask` and `token_type_ids`."""
        length = ops.shape(inputs["input_ids"])[1]
        check_length(length, self.config.max_positions)
        types = inputs.get("token_type_ids")
        if types is None:
            types = ops.zeros_like(inputs["input_ids"])

        x = self.token_embedding(inputs["input_ids"]) + self.position_embedding(ops.arange(length))
        x = self.dropout(self.embedding_norm(x + self.type_embedding(types)), training=training)
        bias = padding_bias(inputs.get("attention_mask"))
        hidden_states = [x]
        for block in self.blocks:
            x = block(x, bias=bias, training=training)
            hidden_states.append(x)
        return {"last_hidden_state": x, "pooled": self.pooler(x[:, 0]), "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        tokens = InputSpec(("batch", "sequence"), "int64")
        return {"input_ids": tokens, "attention_mask": tokens, "token_type_ids": tokens}


@register_model
def bert_tiny(**overrides: Any) -> TransformerModel:
    """2 layers, 128 wide, 2 heads; 4,385,920 parameters."""
    config = BertConfig(hidden_dim=128, num_layers=2, num_heads=2, intermediate_dim=512)
    return build(Bert, config, **overrides)


@register_model
def bert_mini(**overrides: Any) -> TransformerModel:
    """4 layers, 256 wide, 4 heads; 11,170,560 parameters."""
    config = BertConfig(hidden_dim=256, num_layers=4, num_heads=4, intermediate_dim=1024)
    return build(Bert, config, **overrides)


@register_model
def bert_small(**overrides: Any) -> TransformerModel:
    """4 layers, 512 wide, 8 heads; 28,763,648 parameters."""
    config = BertConfig(hidden_dim=512, num_layers=4, num_heads=8, intermediate_dim=2048)
    return build(Bert, config, **overrides)


@register_model
def bert_medium(**overrides: Any) -> TransformerModel:
    """8 layers, 512 wide, 8 heads; 41,373,184 parameters."""
    config = BertConfig(hidden_dim=512, num_layers=8, num_heads=8, intermediate_dim=2048)
    return build(Bert, config, **overrides)


@register_model
def bert_base(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 109,482,240 parameters."""
    return build(Bert, BertConfig(), **overrides)


@register_model
def bert_large(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads; 335,141,888 parameters."""
    config = BertConfig(hidden_dim=1024, num_layers=24, num_heads=16, intermediate_dim=4096)
    return build(Bert, config, **overrides)
