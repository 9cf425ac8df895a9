"""Images varied at random, so that a model learns from more of them than there are."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel):
    """How far images are varied; each amount is drawn anew for every image, 0 leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: float = Field(default=0.0, ge=0, le=0.5)
    """Largest shift, up or down and left or right, as a share of the image's size."""

    rotate: float = Field(default=0.0, ge=0, le=180)
    """Largest turn, in degrees, either way."""

    zoom: float = Field(default=0.0, ge=0, le=0.5)
    """Largest change of size, as a share, either way."""

    flip: bool = False
    """Whether half of the images are mirrored, left to right."""


def augment(
    images: np.ndarray, amounts: Augmentation, random: np.random.Generator, fill: np.ndarray | float = 0.0
) -> np.ndarray:
    """Vary each image at random: flipped, turned, resized and shifted in one bilinear resampling.

    Args:
        images: float32 (batch, height, width, channels).
        amounts: how far each variation goes.
        random: where the variations are drawn from; the same state gives the same images.
        fill: value of what comes into view at the edges, one for all or (channels,).

    Returns:
        float32, of the images' shape.

    Example:
        >>> images = np.ones((2, 8, 8, 1), np.float32)
        >>> augment(images, Augmentation(rotate=10), np.random.default_rng(0)).shape
        (2, 8, 8, 1)
    """
    count, height, width, channels = images.shape
    padded = np.empty((count, height + 2, width + 2, channels), np.float32)
    padded[:] = fill
    padded[:, 1:-1, 1:-1] = images

    def draw(largest: float) -> np.ndarray:
        return random.uniform(-largest, largest, (count, 1, 1)).astype(np.float32)

    # Where each output pixel comes from, from the image's centre and then in the padded image.
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    y, x = (y - (height - 1) / 2).astype(np.float32), (x - (width - 1) / 2).astype(np.float32)
    angle, scale = np.radians(draw(amounts.rotate)), 1 + draw(amounts.zoom)
    mirror = np.where(random.random((count, 1, 1)) < 0.5, -1, 1) if amounts.flip else 1
    rows = (y * np.cos(angle) - x * np.sin(angle)) / scale + draw(amounts.shift) * height + (height + 1) / 2
    columns = (y * np.sin(angle) + x * np.cos(angle)) / scale * mirror
    columns = columns + draw(amounts.shift) * width + (width + 1) / 2

    rows, columns = np.clip(rows, 0, height + 1), np.clip(columns, 0, width + 1)
    top, left = np.minimum(rows.astype(np.int64), height), np.minimum(columns.astype(np.int64), width)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    image = np.arange(count)[:, None, None]
    upper = padded[image, top, left] * (1 - right) + padded[image, top, left + 1] * right
    lower = padded[image, top + 1, left] * (1 - right) + padded[image, top + 1, left + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)
