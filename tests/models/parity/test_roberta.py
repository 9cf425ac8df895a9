"""RoBERTa and XLM-RoBERTa against the public reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import check
from tests.models.tiny import tiny

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 21,
    "type_vocab_size": 1,
}
ODD = {
    **USUAL,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "type_vocab_size": 3,
    "pad_token_id": 3,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
}


@pytest.mark.parametrize(("model_class", "fields"), [("RobertaModel", USUAL), ("XLMRobertaModel", ODD)])
def test_features(tmp_path, model_class, fields):
    ours = check(tmp_path, model_class, fields, task="features")
    positions = 21 - 1 - fields.get("pad_token_id", 1)
    assert (ours.max_length, ours.backbone.config.max_positions) == (positions, positions)


def test_padding_between_tokens_takes_no_position(tmp_path):
    ids = np.array([[5, 1, 1, 6, 7, 1, 8], [1, 1, 9, 4, 3, 2, 0]])
    check(tmp_path, "RobertaModel", USUAL, task="features", inputs={"input_ids": ids})


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("RobertaForSequenceClassification", {"num_labels": 5}, "classification"),
        ("RobertaForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("XLMRobertaForTokenClassification", {"num_labels": 4}, "tokens"),
        ("RobertaForQuestionAnswering", {}, "qa"),
        ("RobertaForMaskedLM", {}, "mlm"),
    ],
)
def test_heads(tmp_path, model_class, fields, task):
    assert check(tmp_path, model_class, {**ODD, **fields}).task == task


def test_a_table_of_positions_with_rows_for_padding_alone_is_refused(tmp_path):
    theirs = references.reference("RobertaModel", "RobertaConfig", **{**USUAL, "max_position_embeddings": 2})
    with pytest.raises(KzooError, match=r"max_position_embeddings=\[2, 1\].*are for padding"):
        from_pretrained(references.save(theirs, tmp_path))


def test_a_tokenizer_that_pads_otherwise_is_refused(wordpiece):
    with pytest.raises(KzooError, match=r"padding_id=0"):
        tiny("Roberta", padding_id=1, tokenizer=wordpiece)
    assert tiny("Roberta", padding_id=0, tokenizer=wordpiece).tokenizer is not None
