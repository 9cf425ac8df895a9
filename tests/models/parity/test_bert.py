"""BERT against the public reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.parity.compare import check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 19,
}
ODD = {
    **USUAL,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "type_vocab_size": 3,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 0.1,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_features(tmp_path, fields):
    check(tmp_path, "BertModel", fields, task="features")


def test_without_mask_and_types(tmp_path):
    ids = np.random.default_rng(0).integers(0, 101, (2, 7))
    check(tmp_path, "BertModel", USUAL, task="features", inputs={"input_ids": ids})


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("BertForSequenceClassification", {"num_labels": 5}, "classification"),
        ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("BertForTokenClassification", {"id2label": {0: "O", 1: "B-X", 2: "I-X"}}, "tokens"),
        ("BertForQuestionAnswering", {}, "qa"),
        ("BertForMaskedLM", {}, "mlm"),
        ("BertForNextSentencePrediction", {}, "next_sentence"),
    ],
)
def test_heads(tmp_path, model_class, fields, task):
    ours = check(tmp_path, model_class, {**ODD, **fields})
    assert ours.task == task
    if "id2label" in fields:
        assert ours.labels == ["O", "B-X", "I-X"]
