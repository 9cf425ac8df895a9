"""The images that a recipe trains on, in batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation, Examples, augment
from kzoo.errors import KzooError
from kzoo.vision import ImagePreprocessing, preprocess


class ImageBatches(keras.utils.PyDataset):
    """Images in batches, read when asked for and preprocessed as the bundle will, then varied.

    Args:
        examples: images and names of classes.
        settings: how images become pixel values.
        batch_size: images a batch.
        seed: what order and variations depend on; without one the order is kept.
        amounts: how far images are varied.
        weights: how much each image counts.

    Attributes:
        error: why an image could not be read, if one could not.
    """

    def __init__(
        self,
        examples: Examples,
        settings: ImagePreprocessing,
        batch_size: int,
        seed: tuple[int, ...] | None = None,
        amounts: Augmentation | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.examples, self.settings, self.batch_size, self.weights = examples, settings, batch_size, weights
        self.random = np.random.default_rng(seed) if seed is not None else None
        self.amounts = amounts if amounts != Augmentation() else None
        black = (0 - np.asarray(settings.mean, np.float32)) / np.asarray(settings.std, np.float32)
        self.fill = black.astype(np.float32)
        self.error: KzooError | None = None
        self.order = np.arange(len(examples))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.examples.take(rows.tolist())
        try:
            pixels = preprocess(list(batch.inputs), self.settings)
        except KzooError as error:
            self.error = error
            raise
        if self.amounts is not None and self.random is not None:
            pixels = augment(pixels, self.amounts, self.random, self.fill)
        return (
            (pixels, batch.targets) if self.weights is None else (pixels, batch.targets, self.weights[rows])
        )

    def on_epoch_end(self) -> None:
        """Make the next epoch's order."""
        if self.random is not None:
            self.order = self.random.permutation(len(self.examples))
