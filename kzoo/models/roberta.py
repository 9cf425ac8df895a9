"""RoBERTa: BERT trained longer, with byte-level tokens and positions counted from the padding (Liu et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.models.backbone import TokenId
from kzoo.models.base import TransformerModel
from kzoo.models.bert import Bert, BertConfig
from kzoo.models.registry import build, register_model
from kzoo.text import Tokenizer


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """RoBERTa's numbers; the defaults are `roberta_base`'s."""

    vocab_size: int = 50_265
    layer_norm_epsilon: float = 1e-5
    type_vocab_size: int = 1
    padding_id: TokenId = 1

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other."""
        super().__post_init__()
        if not 0 <= self.padding_id < self.vocab_size:
            raise KzooError(
                f"padding_id={self.padding_id} is no token of a vocabulary of vocab_size={self.vocab_size}."
            )


@keras.saving.register_keras_serializable("kzoo")
class Roberta(Bert):
    """RoBERTa encoder (Liu et al., 2019).

    A token's position is the number of tokens up to it that are not padding, whatever the `attention_mask`; rows 0
    to `padding_id` of the table of positions are for padding.
    """

    Config = RobertaConfig
    tasks = tuple(task for task in Bert.tasks if task != "next_sentence")
    mlm_activation = "gelu"

    def num_positions(self) -> int:
        """Return how many rows the table of positions has."""
        return self.config.max_positions + self.config.padding_id + 1

    def positions(self, input_ids: Any) -> Any:
        """Return the row in that table of each token, int32 (batch, sequence)."""
        real = ops.cast(ops.not_equal(input_ids, self.config.padding_id), "int32")
        return ops.cumsum(real, axis=1) * real + self.config.padding_id

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer that pads with another token than the one that positions are counted by."""
        if tokenizer.pad_id != self.config.padding_id:
            raise KzooError(
                f"The model takes token {self.config.padding_id} for padding, but the tokenizer pads with "
                f"{tokenizer.pad_id}: build the model with padding_id={tokenizer.pad_id}."
            )


@register_model
def roberta_base(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 124,645,632 parameters."""
    return build(Roberta, RobertaConfig(), **overrides)


@register_model
def roberta_large(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads; 355,359,744 parameters."""
    config = RobertaConfig(hidden_dim=1024, num_layers=24, num_heads=16, intermediate_dim=4096)
    return build(Roberta, config, **overrides)


@register_model
def xlm_roberta_base(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, for a hundred languages (Conneau et al., 2019); 278,043,648 parameters."""
    return build(Roberta, RobertaConfig(vocab_size=250_002), **overrides)
