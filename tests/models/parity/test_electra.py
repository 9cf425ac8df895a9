"""ELECTRA, discriminators and generators, against the public reference implementation."""

from __future__ import annotations

import pytest

from tests.models.parity.compare import check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "embedding_size": 24,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 19,
}
ODD = {
    **USUAL,
    "embedding_size": 10,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "type_vocab_size": 3,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_features(tmp_path, fields):
    check(tmp_path, "ElectraModel", fields, task="features")


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("ElectraForPreTraining", {}, "replaced_token"),
        ("ElectraForMaskedLM", {}, "mlm"),
        ("ElectraForSequenceClassification", {"num_labels": 5}, "classification"),
        ("ElectraForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("ElectraForTokenClassification", {"num_labels": 4}, "tokens"),
        ("ElectraForQuestionAnswering", {}, "qa"),
    ],
)
def test_heads(tmp_path, model_class, fields, task):
    assert check(tmp_path, model_class, {**ODD, **fields}).task == task
