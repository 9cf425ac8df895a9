"""Keras models, as explanations see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from keras import ops

from kzoo.errors import KzooError
from kzoo.explanation.gradients import slopes
from kzoo.models import TransformerModel
from kzoo.runtime import attribution
from kzoo.runtime.explanation import (
    EXCLUSIVE,
    INTEGRATED_GRADIENTS,
    OCCLUSION,
    ROLLOUT,
    Explanation,
    explain_with,
)
from kzoo.runtime.image_explanation import ImageExplanation, explain_image_with
from kzoo.runtime.inputs import ImageReader, TextReader
from kzoo.text import Text
from kzoo.vision import ImagePreprocessing


def explain(
    model: TransformerModel, text: Text, method: str = INTEGRATED_GRADIENTS, label: str | None = None
) -> Explanation:
    """Say how much each word has to do with the label that a model gives to a text.

    Args:
        model: one of the zoo's models for classes or numbers, with its tokenizer.
        text: the text, or a pair of texts as a 2-tuple.
        method: `"integrated_gradients"`, `"rollout"` or `"occlusion"`.
        label: which label to explain; the most probable one unless given.

    Raises:
        KzooError: the model does not classify texts or has no tokenizer, the text has no words, or the label or the
            method is unknown.

    Example:
        >>> import kzoo
        >>> tokenizer = kzoo.text.Tokenizer.train(["a dog runs"], vocab_size=60)
        >>> model = kzoo.models.bert_tiny(labels=["animal", "other"], tokenizer=tokenizer)
        >>> [word.text for word in explain(model, "A dog runs").words]
        ['A', 'dog', 'runs']
    """
    check_explainable(model)
    if model.task == "image_classification":
        raise KzooError("The model classifies images: explain them by explain_image.")
    return explain_with(_OfKeras(model), text, label, method)


def explain_image(
    model: TransformerModel, image: Any, method: str = INTEGRATED_GRADIENTS, label: str | None = None
) -> ImageExplanation:
    """Say how much each pixel has to do with the label that a model gives to an image.

    Args:
        model: one of the zoo's models for classes of images.
        image: anything that `kzoo.vision.preprocess` takes for one.
        method: `"integrated_gradients"`, `"rollout"` or `"occlusion"`.
        label: which label to explain; the most probable one unless given.

    Raises:
        KzooError: the model does not classify images, or the label or the method is unknown.

    Example:
        >>> import kzoo
        >>> model = kzoo.models.vit_micro_patch4_32(num_layers=1, labels=["cat", "dog"])
        >>> explain_image(model, np.zeros((40, 40, 3), np.uint8), "rollout").weights.shape
        (32, 32)
    """
    if model.task != "image_classification":
        raise KzooError(
            f"Only labels of images are explained; {type(model.backbone).__name__} with task='{model.task}' has none."
        )
    return explain_image_with(_OfKeras(model), image, label, method)


def attention_maps(model: TransformerModel, item: Any) -> np.ndarray:
    """Return the attention weights of a text or an image.

    Args:
        model: an encoder or a decoder of the zoo, of texts, with its tokenizer, or of images.
        item: a string, a pair of strings, or an image.

    Returns:
        float32 (layers, heads, length, length): how much each token, special ones included, takes of each other one.
        An image's tokens are its patches, along rows, behind the class token if the model has one.

    Raises:
        KzooError: the model reads texts and images, or a source and a target, or has no tokenizer.
    """
    signature = model.signature()
    if "decoder_input_ids" in signature or len(signature.keys() & {"input_ids", "pixel_values"}) != 1:
        raise KzooError(f"{type(model.backbone).__name__} is not a model of texts alone, or of images.")
    reader = _reader(model)
    items, _ = reader.listed([item])
    feeds = reader.read(items, 0).feeds
    return np.concatenate(model.attention_maps({name: feeds[name] for name in signature}))


def rollout(model: TransformerModel, item: Any) -> np.ndarray:
    """Return what part of each token's input reaches each place of the last layer (Abnar and Zuidema, 2020).

    Args:
        model: as for `attention_maps`.
        item: as for `attention_maps`.

    Returns:
        float64 (length, length), rows that sum to 1.

    Raises:
        KzooError: as for `attention_maps`.
    """
    return attribution.rollout(attention_maps(model, item))


def check_explainable(model: TransformerModel) -> None:
    """Refuse a model that gives texts neither labels nor numbers, and images no labels.

    Raises:
        KzooError: it does not, or reads a source and a target.
    """
    if model.task not in EXCLUSIVE or "decoder_input_ids" in model.signature():
        raise KzooError(
            f"Only labels are explained; {type(model.backbone).__name__} with task='{model.task}' has none."
        )


def _reader(model: TransformerModel) -> TextReader | ImageReader:
    if "pixel_values" in model.signature():
        return ImageReader(cast(ImagePreprocessing, model.image_preprocessing))
    if model.tokenizer is None or model.max_length is None:
        raise KzooError(
            "The model has no tokenizer to read texts with: set model.tokenizer = 'tokenizer.json'."
        )
    kinds: Any = "pairs" if model.task == "next_sentence" else "both"
    return TextReader(model.tokenizer, model.max_length, kinds, offsets=True)


class _OfKeras:
    """A model, as explanations see it."""

    def __init__(self, model: TransformerModel) -> None:
        self.reader = _reader(model)
        self.task: str = model.task
        self._model = model

    def methods(self) -> tuple[str, ...]:
        return (INTEGRATED_GRADIENTS, ROLLOUT, OCCLUSION)

    def class_names(self, count: int) -> list[str]:
        return self._model.labels or [f"LABEL_{index}" for index in range(count)]

    def logits(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return ops.convert_to_numpy(self._model(self._taken(feeds), training=False)["logits"])

    def slopes(
        self, feeds: Mapping[str, np.ndarray], scale: np.ndarray, column: int
    ) -> tuple[np.ndarray, np.ndarray]:
        label = ops.convert_to_tensor(np.full(len(scale), column, "int32"))
        found = slopes(self._model, self._taken(feeds), ops.convert_to_tensor(scale), label)
        return ops.convert_to_numpy(found["logits"]), ops.convert_to_numpy(found["slopes"])

    def attention(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate(self._model.attention_maps(dict(self._taken(feeds))))

    def _taken(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {name: ops.convert_to_tensor(feeds[name]) for name in self._model.signature()}
