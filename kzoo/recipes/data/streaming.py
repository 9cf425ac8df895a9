"""Training by updates: batches without end, from where a run was stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from kzoo.data import Examples
from kzoo.models import TransformerModel
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.directory import RunDirectory
from kzoo.recipes.schema.config import Recipe
from kzoo.training import Position


class Batches(Protocol):
    """Passes over data, of which each depends on its number alone."""

    def stream(self, start: Position) -> Iterator[tuple[Position, Any, np.ndarray]]:
        """Yield position, inputs by name and labels of each batch from `start` on, without end."""
        ...

    def one_pass(self) -> Iterable[tuple[Any, np.ndarray]]:
        """Return inputs by name and labels of all batches of a pass."""
        ...


class StreamedBatches(ABC):
    """What a recipe with `batch_tokens` trains on, from where its run was stopped.

    Args:
        model: what is trained, with its tokenizer.
        recipe: the recipe.
        parts: its data.
        history: the rows of the run so far.
    """

    def __init__(
        self, model: TransformerModel, recipe: Recipe, parts: Parts, history: Sequence[dict[str, Any]]
    ) -> None:
        self.model, self.recipe, self.training = model, recipe, recipe.training
        self.train, self.validation = parts.train, parts.validation
        self.batch_tokens = recipe.training.batch_tokens or 1
        # Where each batch of this call came from; the next one's place is kept with each checkpoint.
        last = history[-1] if history else {"data_pass": 0, "data_batch": 0}
        self.positions = [Position(last["data_pass"], last["data_batch"])]

    @abstractmethod
    def batches(self, examples: Examples, learns: bool) -> Batches:
        """Return examples in batches, to be learnt from or only measured on."""

    def fit_data(self) -> dict[str, Any]:
        """Return the arguments of `fit` that say what is learnt from, and what is validated on."""
        steps = (self.training.checkpoint_every or 1) * self.training.accumulate
        held = None
        if self.validation is not None:
            held = _Listed(list(self.batches(self.validation, learns=False).one_pass()))
        return {"x": self._stream(), "steps_per_epoch": steps, "validation_data": held}

    def measure(self, steps: int, run: RunDirectory) -> dict[str, float]:
        """Return where the data goes on after `steps` batches, and what is measured besides."""
        # TensorFlow asks for a few batches more than it has used.
        data_pass, batch = self.positions[steps]
        return {"data_pass": data_pass, "data_batch": batch}

    def _stream(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield batches, and write down where the one after each comes from."""
        stream = self.batches(self.train, learns=True).stream(self.positions[0])
        _, inputs, labels = next(stream)
        for position, *coming in stream:
            self.positions.append(position)
            yield inputs, labels
            inputs, labels = coming


class _Listed(keras.utils.PyDataset):
    """Batches that are there already."""

    def __init__(self, batches: Sequence[tuple[Any, Any]]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.batches[index]
