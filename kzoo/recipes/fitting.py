"""Building and training the model that a recipe describes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation, Examples, augment, locate
from kzoo.errors import KzooError
from kzoo.models import TASKS, TransformerModel, create_model
from kzoo.recipes.config import Recipe, TextSection
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.parts import Parts
from kzoo.text import Tokenizer
from kzoo.training import default_learning_rate, default_optimizer
from kzoo.vision import ImagePreprocessing, preprocess

_TOKENIZER_KINDS = {"classification": "wordpiece", "seq2seq": "bpe"}


def build_model(recipe: Recipe, parts: Parts, beside: Path) -> TransformerModel:
    """Build the recipe's model, after training its tokenizer if it brings none, and compile it.

    Raises:
        KzooError: the recipe's model does not exist, cannot carry the task, or was given a wrong knob.
    """
    keras.utils.set_random_seed(recipe.training.seed)
    options: dict[str, Any] = {**recipe.model.knobs, "task": recipe.task}
    if parts.labels is not None:
        options["labels"] = parts.labels
    if recipe.task in _TOKENIZER_KINDS:
        tokenizer = _tokenizer(recipe, parts.train, beside)
        options |= {"tokenizer": tokenizer, "vocab_size": tokenizer.vocab_size}
    model = create_model(recipe.model.name, **options)
    training, task = recipe.training, TASKS[recipe.task]
    steps = -(-len(parts.train) // training.batch_size) * training.epochs
    rate = training.learning_rate or default_learning_rate(model.backbone.config.hidden_dim)
    model.compile(optimizer=default_optimizer(rate, steps), loss=task.loss(), metrics=task.metrics())
    model.optimizer.build(model.trainable_variables)
    return model


def _tokenizer(recipe: Recipe, train: Examples, beside: Path) -> Tokenizer:
    if recipe.model.tokenizer is not None:
        return Tokenizer.from_file(locate(recipe.model.tokenizer, beside))
    texts = [str(text) for text in train.inputs]
    if recipe.task == "seq2seq":
        texts += train.targets
    section = recipe.text or TextSection()
    kind: Any = _TOKENIZER_KINDS[recipe.task]
    return Tokenizer.train(texts, kind=kind, vocab_size=section.vocab_size)


def train(
    model: TransformerModel,
    recipe: Recipe,
    parts: Parts,
    run: RunDirectory,
    verbose: int,
    on_epoch: OnEpoch | None = None,
) -> int:
    """Train from the run's last finished epoch to the recipe's last, and leave the best epoch in the model.

    Args:
        model: compiled.
        recipe: the recipe.
        parts: the data.
        run: where checkpoints are, and go.
        verbose: as in `keras.Model.fit`.
        on_epoch: called after each epoch.

    Returns:
        The best epoch, from 1: the last one, if there is nothing to validate on.

    Raises:
        KzooError: an image cannot be read, the loss is no longer a number, or a checkpoint cannot be loaded.
    """
    training, first = recipe.training, run.last_epoch()
    if first:
        _load(model, run.checkpoint(first))
        # Otherwise the order of the examples would be that of the first epochs again.
        keras.utils.set_random_seed(training.seed + first)
    keeper = _Keeper(run, recipe, on_epoch)
    if first < training.epochs:
        data = _fit_data(model, recipe, parts, first)
        try:
            model.fit(
                **data, epochs=training.epochs, initial_epoch=first, verbose=verbose, callbacks=[keeper]
            )
        except Exception:
            for batches in data.values():
                # TensorFlow hides what went wrong in a batch behind an error of its own.
                if isinstance(batches, ImageBatches) and batches.error is not None:
                    raise batches.error from None
            raise
    best = keeper.best()
    if best != training.epochs:
        _load(model, run.checkpoint(best))
    return best


def _load(model: TransformerModel, checkpoint: Path) -> None:
    """Put a checkpoint's weights and optimizer state into the model."""
    try:
        model.load_weights(checkpoint)
    except (ValueError, KeyError, OSError) as error:
        raise KzooError(
            f"{checkpoint} cannot be loaded: it is damaged, or another kzoo made it ({error}). Start another run "
            "with --fresh."
        ) from error


def _fit_data(model: TransformerModel, recipe: Recipe, parts: Parts, first: int) -> dict[str, Any]:
    size, validation = recipe.training.batch_size, parts.validation
    settings = model.image_preprocessing
    if settings is None:
        held = (list(validation.inputs), validation.targets) if validation is not None else None
        return {
            "x": list(parts.train.inputs),
            "y": parts.train.targets,
            "batch_size": size,
            "validation_data": held,
        }
    amounts = recipe.vision.augment if recipe.vision is not None else Augmentation()
    seed = (recipe.training.seed, first)
    return {
        "x": ImageBatches(parts.train, settings, size, seed, amounts),
        "validation_data": ImageBatches(validation, settings, size) if validation is not None else None,
    }


class ImageBatches(keras.utils.PyDataset):
    """Images in batches, read when asked for and preprocessed as the bundle will, then varied.

    Args:
        examples: images and names of classes.
        settings: how images become pixel values.
        batch_size: images a batch.
        seed: what order and variations depend on; without one the order is kept.
        amounts: how far images are varied.

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
    ) -> None:
        super().__init__()
        self.examples, self.settings, self.batch_size = examples, settings, batch_size
        self.random = np.random.default_rng(seed) if seed is not None else None
        self.amounts = amounts if amounts != Augmentation() else None
        black = (0 - np.asarray(settings.mean, np.float32)) / np.asarray(settings.std, np.float32)
        self.fill = black.astype(np.float32)
        self.error: KzooError | None = None
        self.order = np.arange(len(examples))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[str]]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.examples.take(rows.tolist())
        try:
            pixels = preprocess(list(batch.inputs), self.settings)
        except KzooError as error:
            self.error = error
            raise
        if self.amounts is not None and self.random is not None:
            pixels = augment(pixels, self.amounts, self.random, self.fill)
        return pixels, batch.targets

    def on_epoch_end(self) -> None:
        """Make the next epoch's order."""
        if self.random is not None:
            self.order = self.random.permutation(len(self.examples))


class _Keeper(keras.callbacks.Callback):
    """Keeps every finished epoch, and stops when the loss is no longer a number."""

    def __init__(self, run: RunDirectory, recipe: Recipe, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self.run = run
        self.epochs = recipe.training.epochs
        self.on_epoch = on_epoch
        self.score = "val_accuracy" if recipe.task != "seq2seq" else None
        self.rows = run.history()
        self.step = 0
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started, self.step = time.perf_counter(), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        if not np.isfinite(logs["loss"]):
            self._stop(f"at step {self.step} of epoch {len(self.rows) + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # The last step's own update shows in no loss yet.
        if not all(
            np.isfinite(np.asarray(keras.ops.convert_to_numpy(v))).all() for v in self.model.variables
        ):
            self._stop(f"at the last step of epoch {epoch + 1}")
        row = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - self.started, 3)}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        self.rows.append(row | {name: float(value) for name, value in logs.items()})
        self.run.finish_epoch(self.rows, self.best(), self.model.save)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.rows[-1].items() if name != "epoch")
        if self.on_epoch is not None:
            self.on_epoch(epoch + 1, self.epochs, self.rows[-1])
        self.run.log(f"Epoch {epoch + 1} of {self.epochs}: {shown}.")

    def best(self) -> int:
        """Return the best epoch so far, from 1; the later one of equals."""
        if "val_loss" not in self.rows[-1]:
            return len(self.rows)

        def rank(epoch: int) -> tuple[float, float, int]:
            row = self.rows[epoch - 1]
            return (row[self.score] if self.score is not None else 0.0, -row["val_loss"], epoch)

        return max(range(1, len(self.rows) + 1), key=rank)

    def _stop(self, where: str) -> None:
        last = self.run.last_epoch()
        kept = f"The checkpoint of epoch {last} is kept" if last else "No epoch was finished"
        raise KzooError(
            f"The loss is no longer a number, {where}. {kept} in {self.run.path}. A lower "
            "training.learning_rate is what usually helps."
        )
