"""Learning from images or texts without labels, before the training on those with labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kzoo.data import Augmentation, Examples, find_images, locate
from kzoo.errors import KzooError
from kzoo.models import TransformerModel, with_task
from kzoo.models.initialization import variables
from kzoo.recipes.data.images import ImageBatches, ImagesAlone, naming_bad_images
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.data.texts import read_unlabelled
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.sections import PretrainingSection, TrainingSection
from kzoo.recipes.training.building import optimizer_for
from kzoo.recipes.training.fitting import choose, load_checkpoint
from kzoo.recipes.training.keeping import Keeper
from kzoo.text.strings import parts_of
from kzoo.training import MaskedImages, ReplacedTokenDetection
from kzoo.training.pretraining import Pretraining
from kzoo.vision import ImagePreprocessing

# Where its checkpoints are, in a run's directory.
FOLDER = "pretraining"


def learn_without_labels(
    model: TransformerModel,
    recipe: Recipe,
    parts: Parts,
    run: RunDirectory,
    beside: Path,
    verbose: int,
    on_epoch: OnEpoch | None,
) -> None:
    """Have the model learn without labels first, if the recipe says so; go on where that was stopped.

    Args:
        model: what `build_model` gave.
        recipe: the recipe.
        parts: the data; nothing of the test part is learnt from.
        run: where all goes. If its training has begun, there is nothing to do.
        beside: the recipe's folder.
        verbose: as in `keras.Model.fit`.
        on_epoch: called after each epoch.

    Raises:
        KzooError: the model cannot learn so, or an image or a text cannot be read.
    """
    section = recipe.pretraining
    if section is None or run.last_epoch():
        return
    recipe, part = _as_training(recipe, section), run.part(FOLDER)
    lesson = _lesson(model, recipe, section, beside)
    examples = lesson.examples(parts)
    network = lesson.network
    network.compile(optimizer=optimizer_for(model, recipe.training, len(examples)))
    network.optimizer.build(network.trainable_variables)
    first = part.last_epoch()
    if first:
        load_checkpoint(network, part.checkpoint(first))
    keeper = Keeper(part, recipe, on_epoch, reseeds=True)
    if first < recipe.training.periods:
        run.say(f"Learning from {len(examples):,} {lesson.unit} without labels.")
        data = lesson.fit_data(examples, parts, first)
        with naming_bad_images(*data.values()):
            network.fit(
                **data,
                epochs=recipe.training.periods,
                initial_epoch=first,
                verbose=verbose,
                callbacks=[keeper],
            )
    choose(network, recipe.training, part, keeper, first)
    lesson.hand_over()


def check_pretraining(model: TransformerModel, recipe: Recipe, beside: Path) -> None:
    """Refuse, before anything is made, what `learn_without_labels` could not do.

    Raises:
        KzooError: the model cannot learn so, nothing would be hidden, or what it is to learn from is not there.
    """
    if recipe.pretraining is not None:
        _lesson(model, recipe, recipe.pretraining, beside)


def _as_training(recipe: Recipe, section: PretrainingSection) -> Recipe:
    """Return the recipe with its training as long as its pretraining is to be."""
    changes: dict[str, Any] = {"epochs": section.epochs, "average": 1, "patience": None, "layer_decay": 1.0}
    if section.learning_rate is not None:
        changes["learning_rate"] = section.learning_rate
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


class _Lesson(ABC):
    """What a model learns without labels: the network around it, and the data."""

    network: Pretraining
    unit: str

    @abstractmethod
    def examples(self, parts: Parts) -> Any:
        """Return all images or texts that are learnt from; what they are does not count."""

    @abstractmethod
    def fit_data(self, examples: Any, parts: Parts, first: int) -> dict[str, Any]:
        """Return the arguments of `fit` that say what is learnt from, and what the best epoch is chosen by."""

    @abstractmethod
    def hand_over(self) -> None:
        """Let the model have what was learnt."""


def _lesson(model: TransformerModel, recipe: Recipe, section: PretrainingSection, beside: Path) -> _Lesson:
    if recipe.task == "image_classification":
        return _HiddenPatches(model, recipe, section, beside)
    return _ReplacedTokens(model, recipe, section, beside)


class _HiddenPatches(_Lesson):
    """Images, of which hidden patches are painted."""

    unit = "images"

    def __init__(
        self, model: TransformerModel, recipe: Recipe, section: PretrainingSection, beside: Path
    ) -> None:
        options: dict[str, Any] = {} if section.share is None else {"share": section.share}
        self.network = MaskedImages(model, **options)
        # A model that has patches has settings.
        assert model.image_preprocessing is not None
        self._settings: ImagePreprocessing = model.image_preprocessing
        varied = recipe.vision.augment if recipe.vision is not None else Augmentation()
        # Neither mixed nor erased, since they are painted.
        self._amounts = varied.model_copy(update={"mixup": 0.0, "cutmix": 0.0, "erase": 0.0})
        self._training: TrainingSection = recipe.training
        self._more = [image for name in section.unlabelled for image in find_images(locate(name, beside))]

    def examples(self, parts: Parts) -> Any:
        return [*parts.train.inputs, *self._more] if self._more else parts.train.inputs

    def fit_data(self, examples: Any, parts: Parts, first: int) -> dict[str, Any]:
        size, seed, held = self._training.batch_size, self._training.seed, parts.validation
        images = Examples(examples, [""] * len(examples))
        learnt = ImageBatches(images, self._settings, size, seed, first, self._amounts)
        measured = ImageBatches(held, self._settings, size) if held is not None else None
        return {
            "x": ImagesAlone(learnt),
            "validation_data": ImagesAlone(measured) if measured is not None else None,
        }

    def hand_over(self) -> None:
        """Do nothing: the model itself was trained."""


class _ReplacedTokens(_Lesson):
    """Texts, in which tokens that were replaced are found."""

    unit = "texts"

    def __init__(
        self, model: TransformerModel, recipe: Recipe, section: PretrainingSection, beside: Path
    ) -> None:
        if "replaced_token" not in model.backbone.tasks:
            raise KzooError(
                f"The section 'pretraining' has no texts for {type(model.backbone).__name__}: take an ELECTRA, or "
                'name another recipe, which learns hidden tokens first, as model.pretrained = "language.toml".'
            )
        self._model, self._task = model, recipe.task
        self._size = recipe.training.batch_size
        self._discriminator = with_task(model, "replaced_token")
        self.network = ReplacedTokenDetection(self._discriminator)
        self._more = read_unlabelled(section, beside)

    def examples(self, parts: Parts) -> list[str]:
        return [*self._texts(parts.train.inputs), *self._more]

    def fit_data(self, examples: Any, parts: Parts, first: int) -> dict[str, Any]:
        held = parts.validation
        return {
            "x": examples,
            "batch_size": self._size,
            "validation_data": (self._texts(held.inputs),) if held is not None else None,
        }

    def hand_over(self) -> None:
        """Give the model the backbone of the one that found them."""
        learnt = variables(self._discriminator)
        for path, variable in variables(self._model).items():
            if path.startswith("backbone/"):
                variable.assign(learnt[path])

    def _texts(self, inputs: Iterable[Any]) -> list[str]:
        """Return each text by itself, of pairs both."""
        if self._task == "tokens":
            return [" ".join(words) for words in inputs]
        return [part for text in inputs for part in parts_of(text)]
