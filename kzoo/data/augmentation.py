"""Images varied at random, so that a model learns from more of them than there are."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Augmentation(BaseModel):
    """How images are varied: how far, drawn anew for every image, and in what way; 0 leaves them as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: float = Field(default=0.0, ge=0, le=0.5)
    """Largest shift, up or down and left or right, as a share of the image's size."""

    rotate: float = Field(default=0.0, ge=0, le=180)
    """Largest turn, in degrees, either way."""

    zoom: float = Field(default=0.0, ge=0, le=0.5)
    """Largest change of size, as a share, either way."""

    flip: bool = False
    """Whether half of the images are mirrored, left to right."""

    rand_augment: int = Field(default=0, ge=0, le=8)
    """How many operations, drawn anew for each image, change its shape and colours (Cubuk et al., 2019)."""

    magnitude: float = Field(default=0.5, gt=0, le=1)
    """How far these operations go."""

    erase: float = Field(default=0.0, ge=0, le=1)
    """Share of the images in which a rectangle becomes noise (Zhong et al., 2017)."""

    mixup: float = Field(default=0.0, ge=0, le=10)
    """Two images, and their labels, are blended in shares drawn from Beta(mixup, mixup) (Zhang et al., 2017)."""

    cutmix: float = Field(default=0.0, ge=0, le=1)
    """A rectangle comes from another image, its share drawn from Beta(cutmix, cutmix) (Yun et al., 2019); where there
    is `mixup` too, each batch has the one or the other."""

    repeats: int = Field(default=1, gt=0)
    """How often an image stands in a batch, each time varied in its own way (Hoffer et al., 2019)."""

    @model_validator(mode="after")
    def _check_amounts(self) -> Augmentation:
        if "magnitude" in self.model_fields_set and not self.rand_augment:
            raise ValueError("magnitude is rand_augment's: say how many operations, as in rand_augment = 2")
        if self.repeats > 1 and self.model_copy(update={"repeats": 1}) == Augmentation():
            raise ValueError("repeats is for images that are varied: give another amount too")
        return self

    @property
    def moves(self) -> bool:
        """Whether `augment` changes anything."""
        return self.flip or any((self.shift, self.rotate, self.zoom))

    @property
    def mixes(self) -> bool:
        """Whether an image may be of several classes."""
        return bool(self.mixup or self.cutmix)


def augment(
    images: np.ndarray, amounts: Augmentation, random: np.random.Generator, fill: np.ndarray | float = 0.0
) -> np.ndarray:
    """Move what each image shows at random: flipped, turned, resized and shifted in one bilinear resampling.

    The other amounts need Keras' layers; recipes apply them after these.

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
    mirror = (
        np.where(random.random((count, 1, 1)) < 0.5, np.float32(-1), np.float32(1)) if amounts.flip else 1
    )
    rows = (y * np.cos(angle) - x * np.sin(angle)) / scale + draw(amounts.shift) * height + (height + 1) / 2
    columns = (y * np.sin(angle) + x * np.cos(angle)) / scale * mirror
    columns = columns + draw(amounts.shift) * width + (width + 1) / 2

    rows, columns = np.clip(rows, 0, height + 1), np.clip(columns, 0, width + 1)
    top, left = np.minimum(rows.astype(np.int32), height), np.minimum(columns.astype(np.int32), width)
    down, right = ((place - whole)[..., None] for place, whole in ((rows, top), (columns, left)))
    line = width + 2
    corner = (np.arange(count)[:, None, None] * (height + 2) + top) * line + left
    pixels = padded.reshape(-1, channels)
    upper, lower = (
        _between(pixels.take(corner + step, axis=0), pixels.take(corner + step + 1, axis=0), right)
        for step in (0, line)
    )
    return _between(upper, lower, down)


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return what lies so far from one to the other, which it is written over: these arrays are large."""
    other -= one
    other *= share.astype(np.float32)
    other += one
    return other
