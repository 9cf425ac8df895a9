"""ALBERT against the public reference implementation."""

from __future__ import annotations

import pytest

from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 101,
    "embedding_size": 16,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 19,
}
# As wide as the blocks, the embeddings are projected all the same.
ODD = {
    **USUAL,
    "embedding_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "type_vocab_size": 3,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_features(tmp_path, fields):
    check(tmp_path, "AlbertModel", fields, task="features")


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("AlbertForSequenceClassification", {"num_labels": 5}, "classification"),
        ("AlbertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("AlbertForTokenClassification", {"num_labels": 4}, "tokens"),
        ("AlbertForQuestionAnswering", {}, "qa"),
        ("AlbertForMaskedLM", {"embedding_size": 10}, "mlm"),
    ],
)
def test_heads(tmp_path, model_class, fields, task):
    assert check(tmp_path, model_class, {**ODD, **fields}).task == task


def test_a_pretraining_checkpoint_is_a_masked_language_model(tmp_path):
    check(tmp_path, "AlbertForPreTraining", USUAL, unread=("sop_classifier", "albert.pooler"))


@pytest.mark.parametrize("field", ["num_hidden_groups", "inner_group_num"])
def test_more_than_one_block_is_refused(tmp_path, field):
    theirs = references.reference("AlbertModel", "AlbertConfig", **{**USUAL, field: 2})
    with pytest.raises(KzooError, match=f"{field}=2, which kzoo's albert does not compute: it has {field}=1"):
        from_pretrained(references.save(theirs, tmp_path))
