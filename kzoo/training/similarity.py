"""Learning how alike two texts are: pairs in batches, and the loss over their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class CosineLoss(keras.losses.Loss):
    """Squared difference of the cosines of pairs of embeddings from their targets (Reimers and Gurevych, 2019, 3).

    Predictions are (2 * pairs, dim), the two of a pair side by side, as `interleave` puts them; targets (pairs,).

    Example:
        >>> same_and_apart = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], "float32")
        >>> float(CosineLoss()(np.array([1.0, 1.0], "float32"), same_and_apart))
        0.5
    """

    def __init__(self, name: str = "cosine_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each pair (pairs,)."""
        vectors = ops.cast(y_pred, "float32")
        vectors = vectors / ops.maximum(ops.norm(vectors, axis=-1, keepdims=True), 1e-12)
        pairs = ops.reshape(vectors, (-1, 2, vectors.shape[-1]))
        cosines = ops.sum(pairs[:, 0] * pairs[:, 1], axis=-1)
        return ops.square(cosines - ops.cast(y_true, "float32"))


def interleave(pairs: Sequence[tuple[str, str]], targets: Sequence[float]) -> tuple[list[str], np.ndarray]:
    """Return a batch of pairs as one of twice as many texts, which one model embeds, and the targets, float32.

    Example:
        >>> interleave([("a dog", "a cat"), ("red", "blue")], [0.5, 0.0])[0]
        ['a dog', 'a cat', 'red', 'blue']
    """
    return [text for pair in pairs for text in pair], np.asarray(targets, np.float32)
