"""BART against the public reference implementation."""

from __future__ import annotations

import warnings

import pytest

from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import check, compare, make_inputs, run

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
}
ODD = {
    **USUAL,
    "d_model": 27,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 9,
    "encoder_ffn_dim": 31,
    "decoder_ffn_dim": 41,
    "activation_function": "relu",
    "scale_embedding": True,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_logits(tmp_path, fields):
    model = check(tmp_path, "BartForConditionalGeneration", fields)
    assert model.task == "seq2seq"


def test_features(tmp_path):
    check(tmp_path, "BartModel", ODD, task="features")


def test_a_checkpoint_without_a_head_loads_with_its_table(tmp_path):
    theirs = references.reference("BartForConditionalGeneration", "BartConfig", **USUAL)
    theirs.final_logits_bias.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = from_pretrained(references.save(theirs.model, tmp_path))
    assert ours.task == "seq2seq"
    inputs = make_inputs(ours, theirs.config)
    compare(ours, inputs, run(theirs, inputs), {})
