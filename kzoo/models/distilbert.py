"""DistilBERT: every second block of BERT, taught by the whole (Sanh et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.models.base import TransformerModel
from kzoo.models.bert import Bert, EncoderConfig
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class DistilBertConfig(EncoderConfig):
    """DistilBERT's numbers; the defaults are `distilbert_base`'s."""

    num_layers: int = 6
    classifier_dropout: float = 0.2


@keras.saving.register_keras_serializable("kzoo")
class DistilBert(Bert):
    """DistilBERT encoder (Sanh et al., 2019, section 3): BERT without token types and without a pooler."""

    Config = DistilBertConfig
    tasks = tuple(task for task in Bert.tasks if task != "next_sentence")
    pools = False
    head_activation = "relu"


@register_model
def distilbert_base(**overrides: Any) -> TransformerModel:
    """6 layers, 768 wide, 12 heads; 66,362,880 parameters."""
    return build(DistilBert, DistilBertConfig(), **overrides)
