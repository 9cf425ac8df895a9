"""ViT against the public reference implementation."""

from __future__ import annotations

import pytest

from tests.models.parity.compare import check

pytestmark = pytest.mark.backend

USUAL = {
    "image_size": 20,
    "patch_size": 5,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
}
ODD = {
    **USUAL,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "num_channels": 1,
    "layer_norm_eps": 0.1,
    "hidden_act": "gelu_new",
    "qkv_bias": False,
}


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_features(tmp_path, fields):
    # kzoo pools by the class token, so its `pooled` is not the reference's.
    check(
        tmp_path,
        "ViTModel",
        fields,
        task="features",
        names={"pooled": None},
        unread=("pooler",),
    )


def test_classifier(tmp_path):
    labels = dict(enumerate(["cat", "dog", "owl"]))
    ours = check(tmp_path, "ViTForImageClassification", {**ODD, "id2label": labels})
    assert (ours.task, ours.labels) == ("image_classification", ["cat", "dog", "owl"])
