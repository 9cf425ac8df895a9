"""Losses with smoothed labels: of tokens, and of classes, which may be mixed."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kzoo.training.objectives import IGNORED


@keras.saving.register_keras_serializable("kzoo")
class SmoothedTokenLoss(keras.losses.Loss):
    """Cross-entropy of token logits (batch, length, vocab_size), averaged over real labels (batch, length).

    A share of each label is spread evenly over the vocabulary (Szegedy et al., 2015, section 7).

    Args:
        smoothing: that share, from 0 to below 1.

    Example:
        >>> import numpy as np
        >>> even = SmoothedTokenLoss(0.1)(np.array([[2, -100]]), np.zeros((1, 2, 8), "float32"))
        >>> round(float(even), 4)  # log(8)
        2.0794
    """

    def __init__(self, smoothing: float = 0.1, name: str = "smoothed_token_loss", **kwargs: Any) -> None:
        super().__init__(**{"reduction": "sum", "name": name, **kwargs})
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return each token's part (batch, length) of the mean."""
        real = ops.cast(ops.not_equal(y_true, IGNORED), "float32")
        labels = ops.maximum(ops.cast(y_true, "int32"), 0)
        losses = _smoothed_cross_entropy(ops.cast(y_pred, "float32"), labels, self.smoothing)
        return losses * real / ops.maximum(ops.sum(real), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the share, and what all losses have."""
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("kzoo")
class ClassLoss(keras.losses.Loss):
    """Cross-entropy of class logits (batch, num_classes), for ids (batch,) or mixed labels (batch, num_classes).

    Mixed labels are rows of probabilities. A share of each label is spread evenly over the classes (Szegedy et al.,
    2015, section 7).

    Args:
        smoothing: that share, from 0 to below 1.

    Example:
        >>> import numpy as np
        >>> even = ClassLoss()(np.array([[0.5, 0.5]]), np.zeros((1, 2), "float32"))
        >>> round(float(even), 4)  # log(2)
        0.6931
    """

    def __init__(self, smoothing: float = 0.0, name: str = "class_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each example (batch,)."""
        if _are_mixed(y_true, y_pred):
            wanted = y_true * (1.0 - self.smoothing) + self.smoothing / y_pred.shape[-1]
            return keras.losses.categorical_crossentropy(wanted, y_pred, from_logits=True)
        ids = _class_ids(y_true)
        if not self.smoothing:
            return keras.losses.sparse_categorical_crossentropy(ids, y_pred, from_logits=True)
        wanted = _smoothed(ids, y_pred.shape[-1], self.smoothing)
        return keras.losses.categorical_crossentropy(wanted, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Return the share, and what all losses have."""
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("kzoo")
class ClassAccuracy(keras.metrics.Mean):
    """Share of examples whose class is predicted right; of mixed labels, the most probable class counts."""

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count labels as `ClassLoss` takes them, and logits (batch, num_classes)."""
        ids = ops.argmax(y_true, axis=-1) if _are_mixed(y_true, y_pred) else _class_ids(y_true)
        right = ops.equal(ops.cast(ids, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        super().update_state(ops.cast(right, "float32"), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return name and dtype."""
        return {"name": self.name, "dtype": self.dtype}


def _are_mixed(labels: Any, logits: Any) -> bool:
    """Return whether labels are rows of probabilities, rather than ids; of a single class, they are ids."""
    num_classes = logits.shape[-1]
    # In a graph the width may not be known: ids of such a shape are 1 wide, and have been made flat before.
    return len(labels.shape) == 2 and num_classes > 1 and labels.shape[-1] in (None, num_classes)


def _class_ids(labels: Any) -> Any:
    """Return ids int32 (batch,) of ids (batch,) or (batch, 1)."""
    return ops.reshape(ops.cast(labels, "int32"), (-1,))


def _smoothed_cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the loss (...) of logits (..., vocab_size).

    The gradient is written out: derived step by step from the loss, it takes several more passes over what is by far
    the largest tensor of a step.
    """
    vocab_size = logits.shape[-1]

    @ops.custom_gradient
    def loss(logits: Any) -> Any:
        hit = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1), -1)
        total = ops.logsumexp(logits, axis=-1)
        losses = total - (1.0 - smoothing) * hit - smoothing * ops.mean(logits, axis=-1)

        def gradient(*args: Any, upstream: Any = None) -> Any:
            each = args[0] if upstream is None else upstream
            wanted = _smoothed(labels, vocab_size, smoothing)
            return (ops.softmax(logits, axis=-1) - wanted) * ops.expand_dims(each, -1)

        return losses, gradient

    return loss(logits)


def _smoothed(labels: Any, vocab_size: int, smoothing: float) -> Any:
    """Return the wanted probabilities (..., vocab_size)."""
    rest = smoothing / vocab_size
    if keras.backend.backend() == "tensorflow":
        # One pass in place of three: this backend runs each operation as it stands.
        import tensorflow as tf

        return tf.one_hot(labels, vocab_size, on_value=1.0 - smoothing + rest, off_value=rest)
    return ops.one_hot(labels, vocab_size, dtype="float32") * (1.0 - smoothing) + rest
