"""Images varied and mixed with each other by Keras' layers, on any backend, from numpy arrays to numpy arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from kzoo.data import Augmentation, augment
from kzoo.vision import ImagePreprocessing

# What comes into view at the edges: grey, as where these operations were published.
_EDGE = {"fill_mode": "constant", "fill_value": 0.5}


class ImageVariation:
    """Varies batches of pixel values; the same random numbers give the same images.

    Args:
        amounts: how far.
        settings: how the pixel values were made.

    Example:
        >>> noisy = ImageVariation(Augmentation(erase=1.0), ImagePreprocessing(height=8, width=8))
        >>> pixels = np.zeros((2, 8, 8, 3), np.float32)
        >>> bool((noisy.vary(pixels, np.random.default_rng(0)) != pixels).any())
        True
    """

    def __init__(self, amounts: Augmentation, settings: ImagePreprocessing) -> None:
        self._amounts = amounts
        self._mean, self._std = (np.asarray(values, np.float32) for values in (settings.mean, settings.std))
        self._black, white = (0 - self._mean) / self._std, (1 - self._mean) / self._std
        options: dict[str, Any] = {"data_format": "channels_last", "dtype": "float32"}
        self._operations: list[Any] = []
        self._erasing: Any = None
        self._mixing: list[Any] = []
        if amounts.rand_augment:
            self._operations = _operations(amounts.magnitude, settings.channels, options)
        if amounts.erase:
            # A range in place of a number: from a number, Keras draws half of it on the average.
            share, values = (amounts.erase, amounts.erase), (float(self._black.min()), float(white.max()))
            self._erasing = layers.RandomErasing(share, value_range=values, **options)
        if amounts.mixup:
            self._mixing.append(layers.MixUp(amounts.mixup, **options))
        if amounts.cutmix:
            self._mixing.append(layers.CutMix((amounts.cutmix, amounts.cutmix), **options))

    def vary(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Vary each image by itself.

        Args:
            pixels: float32 (batch, height, width, channels), as `kzoo.vision.preprocess` makes them.
            random: where the variations are drawn from.

        Returns:
            float32, of the same shape.
        """
        if self._amounts.moves:
            pixels = augment(pixels, self._amounts, random, self._black)
        if self._operations:
            shown = np.clip(pixels * self._std + self._mean, 0, 1)
            for _ in range(self._amounts.rand_augment):
                shown = self._operate(shown, random)
            pixels = (shown - self._mean) / self._std
        if self._erasing is not None:
            pixels = _apply(self._erasing, pixels, random)
        return pixels

    def mix(
        self, pixels: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blend each image with another one of the batch, or put a part of it in, and the labels likewise.

        Args:
            pixels: float32 (batch, height, width, channels).
            labels: float32 (batch, columns), whatever is to be mixed in the images' shares.
            random: where pairs and shares are drawn from.
        """
        layer = self._mixing[int(random.integers(len(self._mixing)))]
        mixed = _apply(layer, {"images": pixels, "labels": labels}, random)
        return mixed["images"], mixed["labels"]

    def _operate(self, shown: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Change each image, of values from 0 to 1, by one operation.

        Each operation gets its share of the batch, and computes nothing for the other images: Keras' RandAugment
        draws one for the whole batch and computes all of them.
        """
        changed = np.empty_like(shown)
        shares = np.array_split(random.permutation(len(shown)), len(self._operations))
        for operation, rows in zip(random.permutation(len(self._operations)), shares, strict=True):
            if len(rows):
                changed[rows] = _apply(self._operations[operation], shown[rows], random)
        return np.clip(changed, 0, 1)


def _operations(magnitude: float, channels: int, options: dict[str, Any]) -> list[Any]:
    """Return layers that change images of values from 0 to 1, as far as the published operations at most.

    Not among them: what Keras turns the further the smaller the magnitude (solarization), and what it computes
    bin by bin (equalization).
    """
    ranged = {**options, "value_range": (0.0, 1.0)}
    bits = 8 - round(4 * magnitude)
    found: list[Any] = [
        layers.RandomShear(0.3 * magnitude, 0.3 * magnitude, **_EDGE, **options),
        layers.RandomTranslation(0.3 * magnitude, 0.3 * magnitude, **_EDGE, **options),
        layers.RandomRotation(30 / 360 * magnitude, **_EDGE, **options),
        layers.RandomBrightness(0.5 * magnitude, **ranged),
        layers.RandomContrast((0.9 * magnitude, 0.9 * magnitude), **ranged),
        layers.RandomSharpness((0.5 - 0.45 * magnitude, 0.5 + 0.45 * magnitude), **ranged),
        layers.RandomPosterization((bits, bits), **ranged),
        layers.AutoContrast(**ranged),
    ]
    return [*found, layers.RandomColorDegeneration(0.9 * magnitude, **ranged)] if channels == 3 else found


def _apply(layer: Any, data: Any, random: np.random.Generator) -> Any:
    """Return what a layer makes of arrays, its draws taken from `random`."""
    if hasattr(layer, "generator"):
        layer.generator.state.assign(np.array([random.integers(2**31), 0], "uint32"))
    made = layer(data, training=True)
    if isinstance(made, dict):
        return {name: keras.ops.convert_to_numpy(value) for name, value in made.items()}
    return keras.ops.convert_to_numpy(made)
