"""Tasks: for each one its head, loss, metrics, targets, and the graphs that serve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from kzoo.errors import KzooError
from kzoo.models.heads import (
    ClassificationHead,
    EmbeddingHead,
    ImageTextSimilarityHead,
    LanguageModelHead,
    MaskedLanguageModelHead,
    QuestionAnsweringHead,
    ReplacedTokenHead,
    TokenClassificationHead,
)
from kzoo.training import objectives
from kzoo.training.losses import ClassAccuracy, ClassLoss


class HeadOptions(NamedTuple):
    """What a user may say of a head."""

    num_classes: int
    pooling: str
    layer: int
    normalize: bool


@dataclass(frozen=True)
class Task:
    """One thing a model can be made to do.

    `head` makes the head's layer from the backbone; `loss` and `metrics` are what `fit` uses by default, for each
    output by name where there are several; `targets` turns a batch's labels into what the loss compares;
    `has_classes` says that a user chooses the classes, `classes` names those of a task that has its own;
    `outputs_tokens` says that outputs have a sequence axis.
    """

    head: Callable[[Any, HeadOptions], keras.layers.Layer | None]
    loss: Callable[[], Any] = lambda: None
    metrics: Callable[[], Any] = list
    targets: objectives.Targets = objectives.no_targets
    has_classes: bool = False
    classes: tuple[str, ...] = ()
    outputs_tokens: bool = False


def _head(head_class: Any, backbone: Any, *args: Any, **kwargs: Any) -> keras.layers.Layer:
    return head_class(*args, dtype=backbone.dtype_policy, name="head", **kwargs)


def _classifier_dropout(backbone: Any) -> float:
    return getattr(backbone.config, "classifier_dropout", backbone.config.dropout)


def _classification_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return _head(
        ClassificationHead,
        backbone,
        options.num_classes,
        _classifier_dropout(backbone),
        hidden_activation=backbone.head_activation,
        distilled=backbone.distilled,
        biased=backbone.classifier_bias,
    )


def _token_classification_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return _head(TokenClassificationHead, backbone, options.num_classes, _classifier_dropout(backbone))


def _masked_language_model_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return _head(
        MaskedLanguageModelHead,
        backbone,
        backbone.token_embedding,
        backbone.mlm_activation or backbone.config.activation,
        backbone.config.layer_norm_epsilon,
    )


def _embedding_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    num_layers = backbone.config.num_layers
    if not -num_layers - 1 <= options.layer <= num_layers:
        raise KzooError(
            f"layer={options.layer} is none of the model's: 0 is what enters the first block, {num_layers} what "
            "leaves the last one; -1 is the last too."
        )
    layer = -1 if options.layer == num_layers else options.layer
    return _head(EmbeddingHead, backbone, options.pooling, layer, options.normalize)


def _language_model_head(backbone: Any, options: HeadOptions) -> keras.layers.Layer:
    return _head(
        LanguageModelHead,
        backbone,
        backbone.token_embedding,
        tied=getattr(backbone.config, "tie_embeddings", True),
        biased=backbone.logits_bias,
        scale=backbone.logits_scale,
    )


_CLASSIFICATION = Task(
    head=_classification_head,
    loss=ClassLoss,
    metrics=lambda: [ClassAccuracy()],
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
    "regression": Task(
        head=lambda backbone, options: _classification_head(backbone, options._replace(num_classes=1)),
        loss=keras.losses.MeanSquaredError,
        metrics=lambda: [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")],
        targets=objectives.number_targets,
    ),
    "tokens": Task(
        head=_token_classification_head,
        loss=objectives.token_loss,
        metrics=lambda: [objectives.TokenAccuracy()],
        targets=objectives.token_class_targets,
        has_classes=True,
        outputs_tokens=True,
    ),
    "qa": Task(
        head=lambda backbone, options: _head(QuestionAnsweringHead, backbone),
        loss=lambda: {name: objectives.token_loss() for name in objectives.SPAN_ENDS},
        metrics=lambda: {name: [objectives.TokenAccuracy("accuracy")] for name in objectives.SPAN_ENDS},
        targets=objectives.span_targets,
        outputs_tokens=True,
    ),
    "mlm": Task(
        head=_masked_language_model_head,
        loss=objectives.token_loss,
        metrics=lambda: [objectives.TokenAccuracy()],
        targets=objectives.masked_token_targets,
        outputs_tokens=True,
    ),
    "next_sentence": Task(
        head=lambda backbone, options: _head(
            ClassificationHead, backbone, options.num_classes, backbone.config.dropout
        ),
        loss=_CLASSIFICATION.loss,
        metrics=_CLASSIFICATION.metrics,
        targets=objectives.class_targets,
        classes=("next", "random"),
    ),
    "replaced_token": Task(
        head=lambda backbone, options: _head(ReplacedTokenHead, backbone, backbone.config.activation),
        loss=objectives.ReplacedTokenLoss,
        metrics=lambda: [objectives.ReplacedTokenAccuracy()],
        targets=objectives.replaced_token_targets,
        outputs_tokens=True,
    ),
    "image_text_similarity": Task(
        head=lambda backbone, options: _head(ImageTextSimilarityHead, backbone),
        loss=lambda: {name: objectives.ContrastiveLoss() for name in objectives.SIMILARITIES},
        targets=objectives.matching_targets,
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
