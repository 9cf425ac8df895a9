"""Explanations of images' labels: how much each pixel has to do with it, and where attention goes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.runtime.attribution import log_odds, rollout
from kzoo.runtime.explanation import (
    EXCLUSIVE,
    INTEGRATED_GRADIENTS,
    OCCLUSION,
    ROLLOUT,
    Explainable,
    Feeds,
    OfBundle,
    check_method,
    find_label,
    integrated_gradients,
    methods,
)
from kzoo.runtime.inputs import ImageReader
from kzoo.runtime.pipeline import Pipeline
from kzoo.vision import ImagePreprocessing

# Squares along each side of an image that are hidden one after another.
_SQUARES = 8
_BATCH = 32
# A picture shows no more than a hundredth; finer lines cost minutes for large models.
_ERROR = 1e-2
# Rectifiers and poolings have bends anywhere on the line.
_CUTS = ([0.0, 1.0], np.linspace(0, 1, 4).tolist(), np.linspace(0, 1, 10).tolist())


@dataclass(frozen=True)
class ImageExplanation:
    """How much each pixel counts for a label.

    Attributes:
        image: uint8 (height, width, 1 or 3), as the model sees it.
        weights: float64 (height, width). By occlusion, by how much the logarithm of the label's odds falls when the
            pixel's square has the image's mean colour; by integrated gradients, the pixel's share of how far that is
            above the odds of a black image; both are below 0 where the pixel speaks against the label. By rollout,
            what part of the attention that reaches the label comes from the pixel's patch, whatever the label.
        label: what is explained.
        score: its probability.
        method: how the weights were found.
        completeness_error: by integrated gradients, how far the weights' sum is from what they are shares of; None by
            the other methods.
    """

    image: np.ndarray
    weights: np.ndarray
    label: str
    score: float
    method: str
    completeness_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all but the image as JSON can hold it."""
        return {
            "label": self.label,
            "score": self.score,
            "method": self.method,
            "weights": self.weights.tolist(),
            "completeness_error": self.completeness_error,
        }


def explain_image(
    pipeline: Pipeline, image: Any, *, label: str | None = None, method: str | None = None
) -> ImageExplanation:
    """Say how much each pixel has to do with the label that a bundle gives to an image.

    Args:
        pipeline: a bundle that classifies images, from `kzoo.load`.
        image: anything that `kzoo.vision.preprocess` takes for one.
        label: which label to explain; the most probable one unless given.
        method: one of `kzoo.runtime.explanation.methods(pipeline)`; the first of them unless given.

    Raises:
        KzooError: the bundle classifies no images, or the label or the method is unknown.

    Example:
        >>> found = explain_image(kzoo.load("bundles/digits"), "seven.png")  # doctest: +SKIP
        >>> found.label, found.weights.shape  # doctest: +SKIP
        ('7', (8, 8))
    """
    if not methods(pipeline) or not isinstance(pipeline.reader, ImageReader):
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}': only labels of images are explained here."
        )
    return explain_image_with(OfBundle(pipeline), image, label, method)


def explain_image_with(
    model: Explainable, image: Any, label: str | None = None, method: str | None = None
) -> ImageExplanation:
    """Explain what any classifier of images gives; the arguments are those of `explain_image`."""
    method = check_method(model, method)
    (image,), _ = model.reader.listed([image])
    feeds = model.reader.read([image], 0).feeds
    column, label, score = find_label(model, feeds, label)
    weights, error = _METHODS[method](model, feeds, column)
    return ImageExplanation(_seen(feeds, model.reader.settings), weights, label, score, method, error)


def as_seen(pipeline: Pipeline, image: Any) -> np.ndarray:
    """Return an image as a bundle sees it, uint8 (height, width, 1 or 3).

    Raises:
        KzooError: it cannot be read, or the bundle reads texts.
    """
    if not isinstance(pipeline.reader, ImageReader):
        raise KzooError(f"'{pipeline.name}' reads texts, not images.")
    return _seen(pipeline.reader.read([image], 0).feeds, pipeline.reader.settings)


def patch_weights(row: np.ndarray) -> np.ndarray:
    """Return what a token takes of each patch, in the patches' places.

    Args:
        row: (tokens,), such as `attention_maps(pipeline, image)[layer, head, 0]`; class tokens are left out.

    Returns:
        (side, side).

    Example:
        >>> patch_weights(np.array([0.2, 0.1, 0.2, 0.3, 0.2])).tolist()
        [[0.1, 0.2], [0.3, 0.2]]
    """
    side = math.isqrt(len(row))
    return row[len(row) - side**2 :].reshape(side, side)


def reading_row(attention: np.ndarray) -> np.ndarray:
    """Return what the tokens that the label is read from take of each: class tokens, or all where there are none.

    Args:
        attention: (tokens, tokens).

    Returns:
        (tokens,), their mean.
    """
    specials = len(attention) - math.isqrt(len(attention)) ** 2
    return attention[: specials or None].mean(axis=0)


def enlarge(weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return weights (rows, columns) for each pixel of a picture of that size, each repeated where it stands."""
    rows, columns = (
        np.arange(size) * count // size for size, count in zip((height, width), weights.shape, strict=True)
    )
    return weights[rows[:, None], columns]


def _seen(feeds: Feeds, settings: ImagePreprocessing) -> np.ndarray:
    pixels = feeds["pixel_values"][0] * np.asarray(settings.std) + np.asarray(settings.mean)
    return np.clip(np.rint(255 * pixels), 0, 255).astype(np.uint8)


def _by_occlusion(model: Explainable, feeds: Feeds, column: int) -> tuple[np.ndarray, None]:
    pixels = feeds["pixel_values"]
    _, height, width, _ = pixels.shape
    squares = min(_SQUARES, height, width)
    places = enlarge(np.arange(squares**2).reshape(squares, squares), height, width)

    def odds(some: np.ndarray) -> np.ndarray:
        return log_odds(model.logits({"pixel_values": some}), column, EXCLUSIVE[model.task])

    falls = odds(pixels) - np.concatenate([odds(batch) for batch in _without_each(pixels, places)])
    return falls[places], None


def _without_each(pixels: np.ndarray, places: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of one image (1, height, width, channels) without each square in turn."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    for first in range(0, places.max() + 1, _BATCH):
        numbers = np.arange(first, min(first + _BATCH, places.max() + 1))
        hidden = places == numbers[:, None, None]
        yield np.where(hidden[..., None], mean, pixels).astype(pixels.dtype)


def _by_rollout(model: Explainable, feeds: Feeds, column: int) -> tuple[np.ndarray, None]:
    reached = patch_weights(reading_row(rollout(model.attention(feeds))))
    return enlarge(reached, *feeds["pixel_values"].shape[1:3]), None


def _by_integrated_gradients(model: Explainable, feeds: Feeds, column: int) -> tuple[np.ndarray, float]:
    height, width = feeds["pixel_values"].shape[1:3]
    each, error = integrated_gradients(model, feeds, range(height * width), column, _CUTS, _ERROR)
    return each.reshape(height, width), error


_METHODS = {
    INTEGRATED_GRADIENTS: _by_integrated_gradients,
    OCCLUSION: _by_occlusion,
    ROLLOUT: _by_rollout,
}
