"""DeiT checkpoints with a distillation token; those without are ViT's."""

from __future__ import annotations

import dataclasses

from kzoo.weights import vit
from kzoo.weights.family import Head
from kzoo.weights.layouts import LEADING_AXIS, dense, embedding

FAMILY = dataclasses.replace(
    vit.FAMILY,
    model_type="deit",
    backbone="DeiT",
    architecture="DeiTModel",
    prefix="deit.",
    table={
        **vit.FAMILY.table,
        **embedding("backbone/distillation_token", "embeddings.distillation_token", LEADING_AXIS),
    },
    defaults={**vit.FAMILY.defaults, "distilled": True},
    heads=(
        Head(
            "DeiTForImageClassificationWithTeacher",
            "image_classification",
            {
                **dense("head/classifier", "cls_classifier"),
                **dense("head/distillation_classifier", "distillation_classifier"),
            },
            knobs={"distilled": True},
        ),
        Head(
            "DeiTForImageClassification",
            "image_classification",
            dense("head/classifier", "classifier"),
            knobs={"distilled": False},
        ),
    ),
)
