"""Marian: the Transformer of the opus-mt translation models (Junczys-Dowmunt et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kzoo.errors import KzooError
from kzoo.models.backbone import TokenId
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model
from kzoo.models.transformer import Transformer, TransformerConfig
from kzoo.text import Tokenizer


@dataclass(frozen=True)
class MarianConfig(TransformerConfig):
    """Marian's numbers; the defaults are `marian_base`'s.

    `unwritten_id` is a token that decoding never writes: the published vocabularies end with a padding token whose
    row in the table is empty, so that its logit says nothing. `forced_end_id` is what it writes where there is room
    for one more token and no end yet: the end token, or None to stop there as any other.
    """

    vocab_size: int = 58_101
    max_positions: int = 512
    activation: str = "silu"
    layer_norm_epsilon: float = 1e-5
    unwritten_id: TokenId | None = None
    forced_end_id: TokenId | None = None

    def __post_init__(self) -> None:
        """Refuse a token that is none of the vocabulary's."""
        super().__post_init__()
        for name in ("unwritten_id", "forced_end_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise KzooError(f"{name}={token} is no token: vocab_size={self.vocab_size}.")


@keras.saving.register_keras_serializable("kzoo")
class Marian(Transformer):
    """Encoder-decoder of the Marian toolkit: the Transformer, with a bias on the logits.

    Returns the features that `EncoderDecoder` names.
    """

    Config: ClassVar[type] = MarianConfig
    logits_bias: ClassVar[bool] = True

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse one whose texts end otherwise than those that are cut at the limit."""
        forced = self.config.forced_end_id
        if forced is not None and forced != tokenizer.end_id:
            raise KzooError(
                f"The model ends texts at the limit with the token {forced}, but the tokenizer's end token is "
                f"{tokenizer.end_id}: they belong to different checkpoints, or pass forced_end_id={tokenizer.end_id}."
            )


@register_model
def marian_base(**overrides: Any) -> TransformerModel:
    """6 + 6 layers, 512 wide, 8 heads, 58,101 tokens (English to German); 73,886,208 parameters."""
    return build(Marian, MarianConfig(), **overrides)
