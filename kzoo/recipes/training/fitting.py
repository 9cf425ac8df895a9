"""Training the model that a recipe describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data import Augmentation
from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.recipes.data.images import ImageBatches, naming_bad_images
from kzoo.recipes.data.language import LanguageBatches
from kzoo.recipes.data.pairs import PairBatches
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.data.texts import text_batches, varier
from kzoo.recipes.data.weighing import example_weights
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.evaluation.examining import Examiner
from kzoo.recipes.schema.config import STREAMED, Recipe
from kzoo.recipes.schema.sections import TrainingSection
from kzoo.recipes.training.keeping import Keeper
from kzoo.recipes.training.rehearsal import rehearse
from kzoo.training import GradualUnfreezing, merge_lora


def train(
    model: TransformerModel,
    recipe: Recipe,
    parts: Parts,
    run: RunDirectory,
    beside: Path,
    verbose: int,
    on_epoch: OnEpoch | None = None,
) -> int:
    """Train from the run's last checkpoint to the recipe's last one, and leave the chosen weights in the model.

    Args:
        model: compiled.
        recipe: the recipe.
        parts: the data.
        run: where checkpoints are, and go.
        beside: the folder of the recipe.
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
        load_checkpoint(model, run.checkpoint(first))
        # Otherwise the order of the examples would be that of the first epochs again.
        keras.utils.set_random_seed(training.seed + first)
    streamed = None
    if training.batch_tokens is not None:
        kind = PairBatches if recipe.task == "seq2seq" else LanguageBatches
        streamed = kind(model, recipe, parts, run.history())
    keeper = Keeper(run, recipe, on_epoch, streamed, leading_score(model, recipe, parts, run))
    callbacks: list[keras.callbacks.Callback] = [keeper]
    if training.unfreeze_every is not None:
        callbacks.append(GradualUnfreezing(training.unfreeze_every))
    if first < training.periods and not keeper.is_over():
        data = _fit_data(model, recipe, parts, run, beside) if streamed is None else streamed.fit_data()
        with naming_bad_images(*data.values()):
            model.fit(
                **data, epochs=training.periods, initial_epoch=first, verbose=verbose, callbacks=callbacks
            )
    chosen = choose(model, training, run, keeper, first)
    if recipe.lora is not None:
        merge_lora(model)
    return chosen


def choose(
    model: TransformerModel, training: TrainingSection, run: RunDirectory, keeper: Keeper, first: int
) -> int:
    """Put the weights that the recipe wants into the model, and return the checkpoint they come from."""
    last, best = len(keeper.rows), keeper.best()
    if training.average > 1:
        average_checkpoints(model, [run.checkpoint(epoch) for epoch in keeper.averaged()])
        return last
    if best != last or first == last:
        load_checkpoint(model, run.checkpoint(best))
    return best


def average_checkpoints(model: TransformerModel, checkpoints: Sequence[Path]) -> None:
    """Put the mean of the checkpoints' weights into the model."""
    sums = [np.zeros(variable.shape, np.float64) for variable in model.trainable_variables]
    for checkpoint in checkpoints:
        load_checkpoint(model, checkpoint)
        for total, variable in zip(sums, model.trainable_variables, strict=True):
            total += keras.ops.convert_to_numpy(variable)
    for total, variable in zip(sums, model.trainable_variables, strict=True):
        variable.assign((total / len(checkpoints)).astype(np.float32))


def load_checkpoint(model: TransformerModel, checkpoint: Path) -> None:
    """Put a checkpoint's weights and optimizer state into the model."""
    try:
        model.load_weights(checkpoint)
    except (ValueError, KeyError, OSError) as error:
        raise KzooError(
            f"{checkpoint} cannot be loaded: it is damaged, or another kzoo made it ({error}). Start another run "
            "with --fresh."
        ) from error


def _fit_data(
    model: TransformerModel, recipe: Recipe, parts: Parts, run: RunDirectory, beside: Path
) -> dict[str, Any]:
    """Return the arguments of `fit` that say what is learnt from, and what is validated on."""
    size, validation = recipe.training.batch_size, parts.validation
    weights, settings = example_weights(recipe.training, parts), model.image_preprocessing
    if settings is not None:
        amounts = recipe.vision.augment if recipe.vision is not None else Augmentation()
        seed, labels = recipe.training.seed, parts.labels or ()
        return {
            "x": ImageBatches(parts.train, settings, size, seed, run.last_epoch(), amounts, labels, weights),
            "validation_data": ImageBatches(validation, settings, size) if validation is not None else None,
        }
    vary = varier(recipe, parts.train, model.tokenizer, run, beside)
    if vary is None and recipe.task != "embedding":
        held = (list(validation.inputs), validation.targets) if validation is not None else None
        texts = {"x": list(parts.train.inputs), "y": parts.train.targets, "sample_weight": weights}
        return {**texts, "batch_size": size, "validation_data": held}
    return {
        "x": text_batches(parts.train, recipe, vary, weights),
        "validation_data": text_batches(validation, recipe, learn=False) if validation is not None else None,
    }


def leading_score(
    model: TransformerModel, recipe: Recipe, parts: Parts, run: RunDirectory
) -> Callable[[], float] | None:
    """Return what measures the recipe's metric on the validation data, unless Keras or the data does it."""
    if parts.validation is None or recipe.task in STREAMED or recipe.metric == "accuracy":
        return None
    examiner = Examiner(recipe, replace(parts, test=parts.validation))
    return lambda: examiner(rehearse(model, run.path))
