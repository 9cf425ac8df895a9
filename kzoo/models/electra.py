"""ELECTRA: BERT that learns to tell which tokens were replaced (Clark et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.models.base import TransformerModel
from kzoo.models.bert import Bert, BertConfig
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class ElectraConfig(BertConfig):
    """ELECTRA's numbers; the defaults are those of `electra_base`, the discriminator."""

    embedding_dim: int = 768


@keras.saving.register_keras_serializable("kzoo")
class Electra(Bert):
    """ELECTRA encoder (Clark et al., 2020, section 2): BERT without a pooler; generator or discriminator.

    Embeddings narrower or wider than the blocks are projected.
    """

    Config = ElectraConfig
    tasks = (*(task for task in Bert.tasks if task != "next_sentence"), "replaced_token")
    pools = False
    head_activation = "gelu"
    mlm_activation = "gelu"


@register_model
def electra_small(**overrides: Any) -> TransformerModel:
    """12 layers, 256 wide, 4 heads; 13,483,008 parameters."""
    config = ElectraConfig(embedding_dim=128, hidden_dim=256, num_heads=4, intermediate_dim=1024)
    return build(Electra, config, **overrides)


@register_model
def electra_base(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 108,891,648 parameters."""
    return build(Electra, ElectraConfig(), **overrides)
