"""Building and training the model that a recipe describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation, Examples, augment, locate
from kzoo.errors import KzooError
from kzoo.models import TASKS, TransformerModel, create_model
from kzoo.recipes.config import Recipe
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.keeping import Keeper
from kzoo.recipes.pairs import PairBatches
from kzoo.recipes.parts import Parts
from kzoo.recipes.sections import TextSection, TrainingSection
from kzoo.text import Tokenizer
from kzoo.training import (
    InverseSquareRoot,
    SmoothedTokenLoss,
    cosine_schedule,
    default_learning_rate,
    make_optimizer,
)
from kzoo.vision import ImagePreprocessing, preprocess

_TOKENIZER_KINDS = {"classification": "wordpiece", "seq2seq": "bpe"}


def build_model(recipe: Recipe, parts: Parts, beside: Path) -> TransformerModel:
    """Build the recipe's model, after training its tokenizer if it brings none, and compile it.

    Raises:
        KzooError: the recipe's model does not exist, cannot carry the task, or was given a wrong knob.
    """
    training, task = recipe.training, TASKS[recipe.task]
    keras.utils.set_random_seed(training.seed)
    options: dict[str, Any] = {**recipe.model.knobs, "task": recipe.task}
    if training.precision != "float32":
        options["dtype"] = training.precision
    if parts.labels is not None:
        options["labels"] = parts.labels
    if recipe.task in _TOKENIZER_KINDS:
        tokenizer = _tokenizer(recipe, parts.train, beside)
        options |= {"tokenizer": tokenizer, "vocab_size": tokenizer.vocab_size}
    model = create_model(recipe.model.name, **options)
    loss = SmoothedTokenLoss(training.label_smoothing) if training.label_smoothing else task.loss()
    rate = training.learning_rate or default_learning_rate(model.backbone.config.hidden_dim)
    model.compile(optimizer=_optimizer(training, rate, len(parts.train)), loss=loss, metrics=task.metrics())
    model.optimizer.build(model.trainable_variables)
    return model


def _optimizer(training: TrainingSection, rate: float, examples: int) -> keras.optimizers.Optimizer:
    # Schedules count batches, of which several may make an update.
    each = training.accumulate
    warmup = training.warmup_steps * each if training.warmup_steps is not None else None
    updates = training.max_steps
    batches = -(-examples // training.batch_size) * training.periods if updates is None else updates * each
    schedule = cosine_schedule(rate, batches, warmup)
    if training.schedule == "inverse_sqrt":
        schedule = InverseSquareRoot(rate, warmup or max(min(batches // 10, 1000 * each), 1))
    return make_optimizer(
        schedule,
        betas=(training.betas[0], training.betas[1]),
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        accumulate=each,
    )


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
    """Train from the run's last checkpoint to the recipe's last one, and leave the chosen weights in the model.

    Args:
        model: compiled.
        recipe: the recipe.
        parts: the data.
        run: where checkpoints are, and go.
        verbose: as in `keras.Model.fit`.
        on_epoch: called after each epoch.

    Returns:
        The checkpoint that was chosen, from 1: the best one; the last one, if there is nothing to validate on, or if
        the model is the average of the last ones.

    Raises:
        KzooError: an image cannot be read, the loss is no longer a number, or a checkpoint cannot be loaded.
    """
    training, first = recipe.training, run.last_epoch()
    if first:
        _load(model, run.checkpoint(first))
        # Otherwise the order of the examples would be that of the first epochs again.
        keras.utils.set_random_seed(training.seed + first)
    pairs = PairBatches(model, recipe, parts, run.history()) if training.batch_tokens is not None else None
    keeper = Keeper(run, recipe, on_epoch, pairs)
    if first < training.periods and not keeper.is_over():
        data = _fit_data(model, recipe, parts, first) if pairs is None else pairs.fit_data()
        try:
            model.fit(
                **data, epochs=training.periods, initial_epoch=first, verbose=verbose, callbacks=[keeper]
            )
        except Exception:
            for batches in data.values():
                # TensorFlow hides what went wrong in a batch behind an error of its own.
                if isinstance(batches, ImageBatches) and batches.error is not None:
                    raise batches.error from None
            raise
    last = len(keeper.rows)
    if training.average > 1:
        _average(model, [run.checkpoint(epoch) for epoch in keeper.averaged()])
        return last
    best = keeper.best()
    if best != last or first == last:
        _load(model, run.checkpoint(best))
    return best


def _average(model: TransformerModel, checkpoints: Sequence[Path]) -> None:
    """Put the mean of the checkpoints' weights into the model."""
    sums = [np.zeros(variable.shape, np.float64) for variable in model.trainable_variables]
    for checkpoint in checkpoints:
        _load(model, checkpoint)
        for total, variable in zip(sums, model.trainable_variables, strict=True):
            total += keras.ops.convert_to_numpy(variable)
    for total, variable in zip(sums, model.trainable_variables, strict=True):
        variable.assign((total / len(checkpoints)).astype(np.float32))


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
