"""Learning from images without labels, before the training on those with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kzoo.data import Augmentation, Examples, find_images, locate
from kzoo.models import TransformerModel
from kzoo.recipes.data.images import ImageBatches, ImagesAlone, naming_bad_images
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.sections import PretrainingSection
from kzoo.recipes.training.building import optimizer_for
from kzoo.recipes.training.fitting import choose, load_checkpoint
from kzoo.recipes.training.keeping import Keeper
from kzoo.training import MaskedImages
from kzoo.vision import ImagePreprocessing

# Where its checkpoints are, in a run's directory.
FOLDER = "pretraining"


def paint(
    model: TransformerModel,
    recipe: Recipe,
    parts: Parts,
    run: RunDirectory,
    beside: Path,
    verbose: int,
    on_epoch: OnEpoch | None,
) -> None:
    """Have the model learn to paint hidden patches first, if the recipe says so; go on where that was stopped.

    Args:
        model: what `build_model` gave.
        recipe: the recipe.
        parts: the data; nothing of the test part is learnt from.
        run: where all goes. If its training has begun, there is nothing to do.
        beside: the recipe's folder.
        verbose: as in `keras.Model.fit`.
        on_epoch: called after each epoch.

    Raises:
        KzooError: the model has no patches, or an image cannot be read.
    """
    section = recipe.pretraining
    if section is None or run.last_epoch():
        return
    recipe, images = _as_training(recipe, section), _images(parts, section, beside)
    painting, part = MaskedImages(model, share=section.share), run.part(FOLDER)
    painting.compile(optimizer=optimizer_for(model, recipe.training, len(images)))
    painting.optimizer.build(painting.trainable_variables)
    first = part.last_epoch()
    if first:
        load_checkpoint(painting, part.checkpoint(first))
    keeper = Keeper(part, recipe, on_epoch, reseeds=True)
    if first < recipe.training.periods:
        run.say(f"Learning from {len(images):,} images without labels.")
        data, held = _batches(model, recipe, images, first), _held(model, recipe, parts)
        with naming_bad_images(data, held):
            painting.fit(
                data,
                epochs=recipe.training.periods,
                initial_epoch=first,
                validation_data=held,
                verbose=verbose,
                callbacks=[keeper],
            )
    choose(painting, recipe.training, part, keeper, first)


def check_pretraining(model: TransformerModel, recipe: Recipe, beside: Path) -> None:
    """Refuse, before anything is made, what `paint` could not do.

    Raises:
        KzooError: the model has no patches, none would be hidden, or a folder has no images.
    """
    if recipe.pretraining is not None:
        MaskedImages(model, share=recipe.pretraining.share)
        _folders_images(recipe.pretraining, beside)


def _as_training(recipe: Recipe, section: PretrainingSection) -> Recipe:
    """Return the recipe with its training as long as its pretraining is to be."""
    changes: dict[str, Any] = {"epochs": section.epochs, "average": 1, "patience": None, "layer_decay": 1.0}
    if section.learning_rate is not None:
        changes["learning_rate"] = section.learning_rate
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def _images(parts: Parts, section: PretrainingSection, beside: Path) -> Examples:
    """Return all images that are learnt from; what they are does not count."""
    images: Any = parts.train.inputs
    if section.unlabelled:
        images = [*images, *_folders_images(section, beside)]
    return Examples(images, [""] * len(images))


def _folders_images(section: PretrainingSection, beside: Path) -> list[Path]:
    return [image for name in section.unlabelled for image in find_images(locate(name, beside))]


def _batches(model: TransformerModel, recipe: Recipe, images: Examples, first: int) -> ImagesAlone:
    """Return the images in batches, varied as the recipe says; neither mixed nor erased, since they are painted."""
    varied = recipe.vision.augment if recipe.vision is not None else Augmentation()
    amounts = varied.model_copy(update={"mixup": 0.0, "cutmix": 0.0, "erase": 0.0})
    settings, training = _settings(model), recipe.training
    return ImagesAlone(ImageBatches(images, settings, training.batch_size, training.seed, first, amounts))


def _held(model: TransformerModel, recipe: Recipe, parts: Parts) -> ImagesAlone | None:
    """Return the images of the validation part, by which the best epoch is chosen."""
    if parts.validation is None:
        return None
    return ImagesAlone(ImageBatches(parts.validation, _settings(model), recipe.training.batch_size))


def _settings(model: TransformerModel) -> ImagePreprocessing:
    # A model that has patches has settings.
    assert model.image_preprocessing is not None
    return model.image_preprocessing
