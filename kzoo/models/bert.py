"""BERT: the encoder-only Transformer (Devlin et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from kzoo.layers import (
    PositionEmbedding,
    TokenEmbedding,
    TransformerBlock,
    check_length,
    combine_biases,
    document_bias,
    padding_bias,
)
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The numbers that all text encoders of BERT's kind have.

    `embedding_dim`, the width of the embeddings, is that of the blocks unless given.
    """

    left_to: ClassVar[dict[str, str]] = {"embedding_dim": "hidden_dim"}

    vocab_size: int = 30_522
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    max_positions: int = 512
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dim: int | None = None


@dataclass(frozen=True)
class BertConfig(EncoderConfig):
    """BERT's numbers; the defaults are `bert_base`'s."""

    type_vocab_size: int = 2


@keras.saving.register_keras_serializable("kzoo")
class Bert(Backbone):
    """BERT encoder (Devlin et al., 2018, section 3).

    Returns `last_hidden_state` (batch, sequence, hidden_dim) and, where it pools, `pooled` (batch, hidden_dim).
    Embeddings of another width than the blocks' are projected to it (Lan et al., 2019, section 3.1). An architecture
    that derives from it has no token types when its config has no `type_vocab_size`.
    """

    Config: ClassVar[type] = BertConfig
    tasks: ClassVar[tuple[str, ...]] = (
        "classification",
        "multilabel",
        "regression",
        "tokens",
        "qa",
        "mlm",
        "next_sentence",
        "embedding",
        "features",
    )
    learning_inputs = ("document_starts",)
    # What another architecture of this kind may have otherwise.
    pools: ClassVar[bool] = True
    always_projects: ClassVar[bool] = False

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embedding_dim = config.knobs()["embedding_dim"]
        self.num_types = getattr(config, "type_vocab_size", 0)
        self.token_embedding = self._table("token_embedding", config.vocab_size)
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", self.num_positions(), self.embedding_dim
        )
        self.type_embedding: Any = None
        if self.num_types:
            self.type_embedding = self._table("type_embedding", self.num_types)
        self.embedding_norm = self.add_norm("embedding_norm")
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.embedding_projection: Any = None
        if self.always_projects or self.embedding_dim != config.hidden_dim:
            self.embedding_projection = self._dense("embedding_projection")
        self.blocks = self.make_blocks()
        self.pooler = self._dense("pooler", activation="tanh") if self.pools else None

    def _table(self, name: str, size: int) -> TokenEmbedding:
        return self.add(TokenEmbedding, name, size, self.embedding_dim)

    def _dense(self, name: str, **kwargs: Any) -> keras.layers.Dense:
        return self.add(keras.layers.Dense, name, self.config.hidden_dim, **kwargs)

    def make_blocks(self) -> list[TransformerBlock]:
        """Make the blocks, in the order in which they run."""
        return self.add_blocks("block", norm_first=False)

    def num_positions(self) -> int:
        """Return how many rows the table of positions has."""
        return self.config.max_positions

    def positions(self, input_ids: Any) -> Any:
        """Return the row in that table of each token, int32, (sequence,) or (batch, sequence)."""
        return ops.arange(ops.shape(input_ids)[1], dtype="int32")

    def build(self, input_shape: Any = None) -> None:
        """Create all weights."""
        for layer in (self.embedding_norm, self.embedding_projection):
            if layer is not None and not layer.built:
                layer.build((None, None, self.embedding_dim))
        super().build(input_shape)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `input_ids` (batch, sequence), with optional `attention_mask` and `token_type_ids`.

        With `document_starts` (batch, sequence), where in its row each token's document starts, rows hold several
        documents, of which none sees another.
        """
        input_ids, starts = inputs["input_ids"], inputs.get("document_starts")
        check_length(ops.shape(input_ids)[1], self.config.max_positions)
        positions = self.positions(input_ids)
        if starts is not None:
            positions = positions - ops.cast(starts, "int32")
        x = self.token_embedding(input_ids) + self.position_embedding(positions)
        if self.type_embedding is not None:
            types = inputs.get("token_type_ids")
            x = x + self.type_embedding(ops.zeros_like(input_ids) if types is None else types)
        x = self.dropout(self.embedding_norm(x), training=training)
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)

        bias = combine_biases(padding_bias(inputs.get("attention_mask")), document_bias(starts))
        hidden_states = [x]
        for block in self.blocks:
            x = block(x, bias=bias, training=training)
            hidden_states.append(x)
        features = {"last_hidden_state": x, "hidden_states": hidden_states}
        return features if self.pooler is None else {**features, "pooled": self.pooler(x[:, 0])}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name; token types only if there are several."""
        names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (self.num_types > 1)
        return dict.fromkeys(names, InputSpec(("batch", "sequence"), "int64"))


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


@register_model
def bert_base_cased(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, a vocabulary with capitals; 108,310,272 parameters."""
    return build(Bert, BertConfig(vocab_size=28_996), **overrides)


@register_model
def bert_large_cased(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads, a vocabulary with capitals; 333,579,264 parameters."""
    return bert_large(**{"vocab_size": 28_996, **overrides})


@register_model
def minilm_l6_h384(**overrides: Any) -> TransformerModel:
    """6 layers, 384 wide, 12 heads (Wang et al., 2020); 22,713,216 parameters."""
    config = BertConfig(hidden_dim=384, num_layers=6, intermediate_dim=1536)
    return build(Bert, config, **overrides)


@register_model
def minilm_l12_h384(**overrides: Any) -> TransformerModel:
    """12 layers, 384 wide, 12 heads (Wang et al., 2020); 33,360,000 parameters."""
    config = BertConfig(hidden_dim=384, intermediate_dim=1536)
    return build(Bert, config, **overrides)
