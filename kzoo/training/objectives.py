"""Objectives: how a batch's labels become what the loss compares, and the losses and metrics over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.errors import KzooError, did_you_mean

# The label of a position that counts in no loss; the ecosystem's convention.
IGNORED = -100


@dataclass(frozen=True)
class TargetContext:
    """What targets are made with: classes (0 where a task has none), and for target texts a way to encode them."""

    num_classes: int
    labels: Sequence[str] | None
    encode_texts: Callable[[Any], dict[str, np.ndarray]]
    is_text: Callable[[Any], bool]
    start_id: int | None


Inputs = dict[str, Any]
Targets = Callable[[Inputs, Any, TargetContext], tuple[Inputs, Any]]


def no_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Leave inputs and labels as they are."""
    return inputs, y


def class_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Turn class names or ids (batch,) into int32 ids.

    Raises:
        KzooError: a name or id outside the classes.
    """
    return inputs, None if y is None else _class_ids(y, context)


def multilabel_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Turn lists of class names or ids, or rows of zeros and ones, into float32 (batch, num_classes).

    Raises:
        KzooError: a name or id outside the classes, or rows of another width.
    """
    if y is None:
        return inputs, None
    if hasattr(y, "shape") and len(y.shape) == 2:
        if y.shape[1] != context.num_classes:
            raise KzooError(
                f"The labels have {y.shape[1]} columns; the model has {context.num_classes} classes."
            )
        return inputs, np.asarray(y, "float32")
    rows = np.zeros((len(y), context.num_classes), "float32")
    for row, classes in zip(rows, y, strict=True):
        row[_class_ids(classes, context)] = 1.0
    return inputs, rows


def _class_ids(y: Any, context: TargetContext) -> np.ndarray:
    values = np.asarray(y)
    if values.dtype.kind in "USO":
        names = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
        if context.labels is None:
            raise KzooError(
                "The labels are names, but the model does not know its classes: build it with labels=[...]."
            )
        ids = {name: index for index, name in enumerate(context.labels)}
        for name in names:
            if name not in ids:
                raise KzooError(f"The label '{name}' is none of the classes.{did_you_mean(name, ids)}")
        return np.asarray([ids[name] for name in names], "int32")
    if values.size and (values.min() < 0 or values.max() >= context.num_classes):
        bad = int(values.max() if values.max() >= context.num_classes else values.min())
        raise KzooError(
            f"The label {bad} is outside the classes: they are 0 to {context.num_classes - 1}. "
            f"Build the model with num_classes={bad + 1} or more, or mend the label."
        )
    return values.astype("int32")


def next_token_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make each token's label the next token, unless labels are given (Radford et al., 2019, section 2)."""
    if y is not None:
        return inputs, y
    ids = np.asarray(inputs["input_ids"])
    if ids.shape[1] < 2:
        raise KzooError("A text of one token has no next one to learn: give longer texts.")
    mask = np.asarray(inputs.get("attention_mask", np.ones_like(ids)))
    labels = np.where(mask[:, 1:] > 0, ids[:, 1:], IGNORED).astype("int32")
    return {name: np.asarray(value)[:, :-1] for name, value in inputs.items()}, labels


def seq2seq_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make decoder inputs, shifted right, and labels from target texts (Vaswani et al., 2017, section 3.1).

    Raises:
        KzooError: no target texts, and no `decoder_input_ids` among the inputs.
    """
    if y is not None and context.is_text(y):
        encoded = context.encode_texts(y)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        start = np.full((len(ids), 1), context.start_id, ids.dtype)
        shifted = np.concatenate([start, ids[:, :-1]], axis=1)
        return {**inputs, "decoder_input_ids": shifted}, np.where(mask > 0, ids, IGNORED).astype("int32")
    if "decoder_input_ids" not in inputs:
        raise KzooError(
            "An encoder-decoder needs the target side too: give target texts as y, or decoder_input_ids among "
            "the inputs. To translate, export the model and open the bundle with kzoo.load."
        )
    return inputs, y


def token_loss() -> keras.losses.Loss:
    """Return the cross-entropy of token logits (batch, length, vocab_size), averaged over real labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)


@keras.saving.register_keras_serializable("kzoo")
class TokenAccuracy(keras.metrics.Mean):
    """Share of tokens predicted right, among those with a label."""

    def __init__(self, name: str = "token_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count labels (batch, length), -100 where there is none, and logits (batch, length, vocab_size)."""
        right = ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        super().update_state(ops.cast(right, "float32"), ops.cast(ops.not_equal(y_true, IGNORED), "float32"))

    def get_config(self) -> dict[str, Any]:
        """Return name and dtype."""
        return {"name": self.name, "dtype": self.dtype}
