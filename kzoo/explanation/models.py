"""Keras models, as explanations see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from kzoo.runtime.inputs import TextReader
from kzoo.text import Text


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
    return explain_with(_OfKeras(model), text, label, method)


def attention_maps(model: TransformerModel, text: Text) -> np.ndarray:
    """Return the attention weights of a text.

    Args:
        model: an encoder or a decoder of the zoo, with its tokenizer.
        text: a string, or a pair of strings.

    Returns:
        float32 (layers, heads, length, length): how much each token, special ones included, takes of each other one.

    Raises:
        KzooError: the model reads no texts, or both a source and a target, or has no tokenizer.
    """
    signature = model.signature()
    if "input_ids" not in signature or signature.keys() & {"decoder_input_ids", "pixel_values"}:
        raise KzooError(f"{type(model.backbone).__name__} is not a model of texts alone.")
    return np.concatenate(model.attention_maps(_feeds(model, text)))


def rollout(model: TransformerModel, text: Text) -> np.ndarray:
    """Return what part of each token's input reaches each place of the last layer (Abnar and Zuidema, 2020).

    Args:
        model: an encoder or a decoder of the zoo, with its tokenizer.
        text: a string, or a pair of strings.

    Returns:
        float64 (length, length), rows that sum to 1.

    Raises:
        KzooError: as for `attention_maps`.
    """
    return attribution.rollout(attention_maps(model, text))


def check_explainable(model: TransformerModel) -> None:
    """Refuse a model that gives texts neither labels nor numbers.

    Raises:
        KzooError: it does not, or reads a source and a target.
    """
    signature = model.signature()
    if model.task not in EXCLUSIVE or "input_ids" not in signature or "decoder_input_ids" in signature:
        raise KzooError(
            f"Only labels of texts are explained; {type(model.backbone).__name__} with task='{model.task}' has none."
        )


def _reader(model: TransformerModel) -> TextReader:
    if model.tokenizer is None or model.max_length is None:
        raise KzooError(
            "The model has no tokenizer to read texts with: set model.tokenizer = 'tokenizer.json'."
        )
    kinds: Any = "pairs" if model.task == "next_sentence" else "both"
    return TextReader(model.tokenizer, model.max_length, kinds, offsets=True)


def _feeds(model: TransformerModel, text: Text) -> dict[str, np.ndarray]:
    reader = _reader(model)
    items, _ = reader.listed([text])
    feeds = reader.read(items, 0).feeds
    return {name: feeds[name] for name in model.signature()}


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
