"""GPT-2 against the public reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import assert_same, check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 97,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 23,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
ODD = {
    **USUAL,
    "n_layer": 3,
    "n_head": 3,
    "n_inner": 37,
    "layer_norm_epsilon": 0.01,
    "activation_function": "relu",
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
@pytest.mark.parametrize(
    ("model_class", "task"), [("GPT2Model", "features"), ("GPT2LMHeadModel", "causal_lm")]
)
def test_gpt2(tmp_path, model_class, fields, task):
    ours = check(tmp_path, model_class, fields, task=task, names={"pooled": None})
    assert ours.task == task


@pytest.mark.parametrize(
    ("model_class", "task"),
    [("GPT2ForSequenceClassification", "classification"), ("GPT2ForTokenClassification", "tokens")],
)
def test_classifiers(tmp_path, bpe, model_class, task):
    # The reference tells padding by its id, which a written config.json has from the tokenizer.
    fields = {**USUAL, "vocab_size": 300, "pad_token_id": bpe.pad_id, "num_labels": 5}
    ours = check(tmp_path, model_class, fields, tokenizer=bpe)
    assert (ours.task, ours.num_classes) == (task, 5)


def test_left_padding(tmp_path):
    theirs = references.reference("GPT2LMHeadModel", "GPT2Config", **USUAL)
    ours = from_pretrained(references.save(theirs, tmp_path))
    mask = (np.arange(17)[None] >= np.array([0, 15, 8, 1])[:, None]).astype("int64")
    ids = np.random.default_rng(1).integers(0, 97, mask.shape)
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    expected = references.run(theirs, input_ids=ids, attention_mask=mask, position_ids=positions)
    assert_same(ours({"input_ids": ids, "attention_mask": mask})["logits"], expected["logits"], mask)
