"""Marian: the Transformer of the opus-mt translation models (Junczys-Dowmunt et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kzoo.errors import KzooError
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model
from kzoo.models.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class MarianConfig(TransformerConfig):
    """Marian's numbers; the defaults are `marian_base`'s.

    `unwritten_id` is a token that decoding never writes: the published vocabularies end with a padding token whose
    row in the table is empty, so that its logit says nothing.
    """

    vocab_size: int = 58_101
    max_positions: int = 512
    activation: str = "silu"
    layer_norm_epsilon: float = 1e-5
    unwritten_id: int | None = None

    def __post_init__(self) -> None:
        """Refuse a token that is none of the vocabulary's."""
        super().__post_init__()
        if self.unwritten_id is not None and self.unwritten_id >= self.vocab_size:
            raise KzooError(f"unwritten_id={self.unwritten_id} is no token: vocab_size={self.vocab_size}.")


@keras.saving.register_keras_serializable("kzoo")
class Marian(Transformer):
    """Encoder-decoder of the Marian toolkit: the Transformer, with a bias on the logits.

    Returns the features that `EncoderDecoder` names.
    """

    Config: ClassVar[type] = MarianConfig
    logits_bias: ClassVar[bool] = True


@register_model
def marian_base(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 512 wide, 8 heads, 58,101 tokens (English to German); 73,886,208 parameters."""
    return build(Marian, MarianConfig(), **overrides)
