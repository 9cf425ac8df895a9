"""ALBERT: one block, run again and again, over narrow embeddings (Lan et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.layers import TransformerBlock
from kzoo.models.base import TransformerModel
from kzoo.models.bert import Bert, BertConfig
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class AlbertConfig(BertConfig):
    """ALBERT's numbers; the defaults are `albert_base_v2`'s. `num_layers` says how often the block runs."""

    vocab_size: int = 30_000
    embedding_dim: int = 128
    activation: str = "gelu_tanh"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1


@keras.saving.register_keras_serializable("kzoo")
class Albert(Bert):
    """ALBERT encoder (Lan et al., 2019, section 3.1): BERT with one set of weights for all blocks."""

    Config = AlbertConfig
    tasks = tuple(task for task in Bert.tasks if task != "next_sentence")
    always_projects = True

    def make_blocks(self) -> list[TransformerBlock]:
        """Make the one block, and return it as often as it runs."""
        return self.add_blocks("block", num_layers=1, norm_first=False) * self.config.num_layers


@register_model
def albert_base_v2(**overrides: Any) -> TransformerModel:
    """12 layers with the same weights, 768 wide, 12 heads; 11,683,584 parameters."""
    return build(Albert, AlbertConfig(), **overrides)
