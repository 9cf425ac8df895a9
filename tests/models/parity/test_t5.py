"""T5 against the public reference implementation."""

from __future__ import annotations

import json

import pytest

from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import check, check_written, compare, make_inputs, run
from tests.optional import require

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "d_model": 24,
    "d_kv": 12,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
ODD = {
    **USUAL,
    "d_kv": 5,
    "d_ff": 31,
    "num_layers": 1,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 0.1,
    "feed_forward_proj": "gated-silu",
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_logits(tmp_path, fields):
    model = check(tmp_path, "T5ForConditionalGeneration", fields)
    assert model.task == "seq2seq"
    assert model.head.projection is None


def test_features(tmp_path):
    check(tmp_path, "T5Model", {**ODD, "feed_forward_proj": "gelu"}, task="features")


def test_version_1_1(tmp_path):
    torch = require("torch")
    fields = {**USUAL, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    theirs = references.reference("T5ForConditionalGeneration", "T5Config", **fields)
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn(101, 24) * 0.25)
    folder = references.save(theirs, tmp_path / "theirs")
    ours = from_pretrained(folder)
    assert ours.head.projection is not None
    inputs = make_inputs(ours, theirs.config)
    expected = run(theirs, inputs)
    compare(ours, inputs, expected, {})
    check_written(ours, theirs, tmp_path / "ours", inputs, expected, (), {})

    # As version 4 of the original library, and the published checkpoints, have it.
    config = json.loads((folder / "config.json").read_text())
    del config["scale_decoder_outputs"], config["dense_act_fn"], config["is_gated_act"]
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    compare(from_pretrained(folder), inputs, expected, {})
