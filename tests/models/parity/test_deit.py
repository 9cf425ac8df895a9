"""DeiT against the public reference implementation."""

from __future__ import annotations

import pytest

from tests.models.parity.compare import check
from tests.models.parity.test_vit import ODD, USUAL

pytestmark = pytest.mark.backend


def test_features(tmp_path):
    # kzoo pools by the class token, so its `pooled` is not the reference's.
    check(
        tmp_path,
        "DeiTModel",
        USUAL,
        task="features",
        names={"pooled": None, "pooled_distillation": None},
        unread=("pooler",),
    )


@pytest.mark.parametrize(
    ("model_class", "distilled"),
    [("DeiTForImageClassificationWithTeacher", True), ("DeiTForImageClassification", False)],
)
def test_classifiers(tmp_path, model_class, distilled):
    ours = check(tmp_path, model_class, {**ODD, "num_labels": 3})
    assert (ours.task, ours.num_classes) == ("image_classification", 3)
    assert ours.backbone.config.distilled is distilled
