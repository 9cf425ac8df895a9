"""Tasks: for each one its head, loss, metrics, targets, and the graphs that serve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from kzoo.models.heads import ClassificationHead, EmbeddingHead, LanguageModelHead
from kzoo.training import objectives


class HeadOptions(NamedTuple):
    """What a user may say of a head."""

    num_classes: int
    pooling: str


@dataclass(frozen=True)
class Task:
    """One thing a model can be made to do.

    `head` makes the head's layer from the backbone; `loss` and `metrics` are what `fit` uses by default;
    `targets` turns a batch's labels into what the loss compares; `outputs_tokens` says that outputs have a
    sequence axis.
    """

    head: Callable[[Any, HeadOptions], keras.layers.Layer | None]
    loss: Callable[[], keras.losses.Loss | None] = lambda: None
    metrics: Callable[[], list[keras.metrics.Metric]] = list
    targets: objectives.Targets = objectives.no_targets
    has_classes: bool = False
    outputs_tokens: bool = False


def _classification_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return ClassificationHead(
        options.num_classes, backbone.config.dropout, dtype=backbone.dtype_policy, name="head"
    )


def _embedding_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return EmbeddingHead(options.pooling, dtype=backbone.dtype_policy, name="head")


def _language_model_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return LanguageModelHead(backbone.token_embedding, dtype=backbone.dtype_policy, name="head")


_CLASSIFICATION = Task(
    head=_classification_head,
    loss=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    targets=objectives.class_targets,
    has_classes=True,
)

TASKS: dict[str, Task] = {
    "features": Task(head=lambda backbone, options: None, outputs_tokens=True),
    "classification": _CLASSIFICATION,
    "image_classification": _CLASSIFICATION,
    "multilabel": Task(
        head=_classification_head,
        loss=lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=lambda: [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
        targets=objectives.multilabel_targets,
        has_classes=True,
    ),
    "embedding": Task(head=_embedding_head),
    "causal_lm": Task(
        head=_language_model_head,
        loss=objectives.token_loss,
        metrics=lambda: [objectives.TokenAccuracy()],
        targets=objectives.next_token_targets,
        outputs_tokens=True,
    ),
    "seq2seq": Task(
        head=_language_model_head,
        loss=objectives.token_loss,
        metrics=lambda: [objectives.TokenAccuracy()],
        targets=objectives.seq2seq_targets,
        outputs_tokens=True,
    ),
}
