"""Marian checkpoints, such as the opus-mt ones: named as BART's, without tables of positions."""

from __future__ import annotations

from typing import Any

from kzoo.weights import bart
from kzoo.weights.family import Family, Head
from kzoo.weights.fields import WHOLE, Field, Kind


def _only_token(value: Any) -> int:
    try:
        ((token,),) = value
    except (TypeError, ValueError):
        raise ValueError("kzoo can leave out one token, and no more") from None
    return WHOLE.read(token)


_ONE_TOKEN = Kind(_only_token, lambda token: None if token is None else [[token]])

FAMILY = Family(
    model_type="marian",
    backbone="Marian",
    architecture="MarianModel",
    prefix="model.",
    table=bart.BLOCKS,
    fields=(
        *bart.FIELDS,
        Field("decoder_vocab_size", "vocab_size", WHOLE),
        # The padding token, whose row in the table is empty.
        Field("pad_token_id", "unwritten_id", WHOLE),
        Field("bad_words_ids", "unwritten_id", _ONE_TOKEN),
        Field("forced_eos_token_id", "forced_end_id", WHOLE),
    ),
    decoding=("bad_words_ids", "forced_eos_token_id"),
    defaults={"vocab_size": 58_101, **bart.DEFAULTS},
    fixed=bart.FIXED,
    required={
        **bart.REQUIRED,
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "share_encoder_decoder_embeddings": True,
    },
    no_effect=bart.NO_EFFECT,
    heads=(Head("MarianMTModel", "seq2seq", bart.LOGITS, tied=bart.LOGITS_TIED),),
    tied=bart.TIED,
    # The sinusoids, which older checkpoints hold.
    known=(r"(encoder|decoder)\.embed_positions\.weight",),
    layers=bart.LAYERS,
)
