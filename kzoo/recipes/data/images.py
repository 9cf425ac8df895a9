"""The images that a recipe trains on, in batches."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation, Examples
from kzoo.errors import KzooError
from kzoo.recipes.data.image_variation import ImageVariation
from kzoo.vision import ImagePreprocessing
from kzoo.vision.preprocessing import decode, normalize

# Decoded images are kept for the next epoch if all of them take less: CIFAR-10's take 150 MB.
_KEPT_BYTES = 512 * 2**20


class ImageBatches(keras.utils.PyDataset):
    """Images in batches, read when asked for and preprocessed as the bundle will, then varied.

    What is drawn depends on the seed, the epoch and the batch's place, and on nothing that came before, so that a
    training that was stopped sees what another one does.

    Args:
        examples: images and names of classes.
        settings: how images become pixel values.
        batch_size: images a batch.
        seed: what order and variations depend on; without one the order is kept, and nothing varied.
        epoch: the first epoch's number.
        amounts: how images are varied.
        labels: the classes in order, for images that are mixed.
        weights: how much each image counts.

    Attributes:
        error: why an image could not be read, if one could not.
    """

    def __init__(
        self,
        examples: Examples,
        settings: ImagePreprocessing,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        amounts: Augmentation | None = None,
        labels: Sequence[str] = (),
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.examples, self.settings, self.batch_size = examples, settings, batch_size
        self.seed, self.epoch, self.weights = seed, epoch, weights
        self.amounts = amounts or Augmentation()
        self.ids = {label: index for index, label in enumerate(labels)}
        self.variation = ImageVariation(self.amounts, settings) if seed is not None else None
        self.error: KzooError | None = None
        self.order = self._order()
        self._decoded = _Decoded(examples, settings)

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        try:
            pixels = normalize(self._decoded.take(rows), self.settings)
        except KzooError as error:
            self.error = error
            raise
        weights = self.weights[rows] if self.weights is not None else None
        targets: Any = [self.examples.targets[row] for row in rows.tolist()]
        if self.variation is not None:
            random = np.random.default_rng((self.seed or 0, self.epoch, index))
            pixels = self.variation.vary(pixels, random)
            if self.amounts.mixes:
                # Weights are mixed as labels are: a column more.
                columns = [self._one_hot(targets)] + ([weights[:, None]] if weights is not None else [])
                stacked = np.concatenate(columns, axis=1).astype(np.float32)
                pixels, mixed = self.variation.mix(pixels, stacked, random)
                targets = mixed[:, : len(self.ids)]
                weights = mixed[:, -1] if weights is not None else None
        return (pixels, targets) if weights is None else (pixels, targets, weights)

    def _one_hot(self, names: Sequence[str]) -> np.ndarray:
        return np.eye(len(self.ids), dtype=np.float32)[[self.ids[name] for name in names]]

    def _order(self) -> np.ndarray:
        """Return which images this epoch has, and where.

        With repeats an epoch has that much fewer of them, so that it is no longer; all come up in as many epochs.
        """
        count, repeats = len(self.examples), self.amounts.repeats
        if self.seed is None:
            return np.arange(count)
        turn, place = divmod(self.epoch, repeats)
        shuffled = np.random.default_rng((self.seed, turn)).permutation(count)
        different = -(-count // repeats)
        chosen = shuffled.take(np.arange(different) + place * different, mode="wrap")
        return np.repeat(chosen, repeats)[:count]

    def on_epoch_end(self) -> None:
        """Make the next epoch's order."""
        self.epoch += 1
        self.order = self._order()


class ImagesAlone(keras.utils.PyDataset):
    """The images of `ImageBatches`, without what they are: each batch is float32 (batch, height, width, channels).

    Args:
        batches: where they come from.
    """

    def __init__(self, batches: ImageBatches) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (self.batches[index][0],)

    def on_epoch_end(self) -> None:
        """Make the next epoch's order."""
        self.batches.on_epoch_end()


@contextlib.contextmanager
def naming_bad_images(*sources: Any) -> Iterator[None]:
    """Have what ends a training say which image could not be read: TensorFlow hides that behind an error of its own.

    Args:
        sources: what is learnt from, images or not.
    """
    try:
        yield
    except Exception:
        for source in sources:
            batches = source.batches if isinstance(source, ImagesAlone) else source
            if isinstance(batches, ImageBatches) and batches.error is not None:
                raise batches.error from None
        raise


class _Decoded:
    """Images in one size, decoded when they are first asked for, and kept if there is room for all."""

    def __init__(self, examples: Examples, settings: ImagePreprocessing) -> None:
        self._examples, self._settings = examples, settings
        shape = (len(examples), settings.height, settings.width, settings.channels)
        self._kept = np.empty(shape, np.uint8) if math.prod(shape) < _KEPT_BYTES else None
        self._is_kept = np.zeros(len(examples), bool)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return these images, uint8 (rows, height, width, channels)."""
        if self._kept is not None and self._is_kept[rows].all():
            return self._kept[rows]
        decoded = decode(list(self._examples.take(rows.tolist()).inputs), self._settings)
        if self._kept is not None:
            self._kept[rows], self._is_kept[rows] = decoded, True
        return decoded
