"""Training the model that a recipe describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation
from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.recipes.config import Recipe
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.images import ImageBatches
from kzoo.recipes.keeping import Keeper
from kzoo.recipes.pairs import PairBatches
from kzoo.recipes.parts import Parts


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
