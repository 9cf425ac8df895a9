"""Marian against the public reference implementation."""

from __future__ import annotations

import pytest

from tests.models.parity.compare import check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 19,
    "activation_function": "swish",
    "scale_embedding": True,
    "pad_token_id": 100,
    "decoder_start_token_id": 100,
}
ODD = {
    **USUAL,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 41,
    "decoder_ffn_dim": 31,
    "activation_function": "gelu_new",
    "scale_embedding": False,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_logits(tmp_path, fields):
    model = check(tmp_path, "MarianMTModel", fields)
    assert model.task == "seq2seq"


def test_features(tmp_path):
    # The original library stores its sinusoids with this class.
    positions = ("encoder.embed_positions", "decoder.embed_positions")
    check(tmp_path, "MarianModel", ODD, unread=positions, task="features")
