"""DistilBERT against the public reference implementation."""

from __future__ import annotations

import pytest

from kzoo.errors import KzooError
from tests.models.parity.compare import check
from tests.models.tiny import tiny

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 40,
    "max_position_embeddings": 19,
}
ODD = {**USUAL, "n_heads": 3, "hidden_dim": 41, "activation": "relu", "sinusoidal_pos_embds": True}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_features(tmp_path, fields):
    check(tmp_path, "DistilBertModel", fields, task="features")


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("DistilBertForSequenceClassification", {"num_labels": 5}, "classification"),
        ("DistilBertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("DistilBertForTokenClassification", {"num_labels": 4}, "tokens"),
        ("DistilBertForQuestionAnswering", {}, "qa"),
        ("DistilBertForMaskedLM", {}, "mlm"),
    ],
)
def test_heads(tmp_path, model_class, fields, task):
    # A hidden layer of the classifier is one of ReLU, the masked language model's of the config's activation.
    assert check(tmp_path, model_class, {**ODD, "activation": "gelu", **fields}).task == task


def test_an_epsilon_that_config_json_cannot_say_is_not_written(tmp_path):
    model = tiny("DistilBert", layer_norm_epsilon=0.1)
    with pytest.raises(KzooError, match=r"layer_norm_epsilon=0\.1, .* can only say 1e-12"):
        model.save_pretrained(tmp_path)
