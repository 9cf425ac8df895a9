"""Training on pairs of texts: batches by tokens, and real translations of the validation data on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.recipes.config import Recipe
from kzoo.recipes.decoding import translate
from kzoo.recipes.directory import RunDirectory
from kzoo.recipes.parts import Parts
from kzoo.recipes.sections import TextSection
from kzoo.text.subwords import SubwordDropout
from kzoo.training import Position, TokenBatches, compiles_each_shape

# How many translations the log shows after each checkpoint.
_SHOWN = 3


class PairBatches:
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
        self.model, self.training, self.validation = model, recipe.training, parts.validation
        self.batch_tokens = recipe.training.batch_tokens or 1
        self.length = min(model.max_length or self.batch_tokens, self.batch_tokens)
        self.dropout = (recipe.text or TextSection()).dropout
        self.train = parts.train
        # Where each batch of this call came from; the next one's place is kept with each checkpoint.
        last = history[-1] if history else {"data_pass": 0, "data_batch": 0}
        self.positions = [Position(last["data_pass"], last["data_batch"])]

    def fit_data(self) -> dict[str, Any]:
        """Return the arguments of `fit` that say what is learnt from, and what is validated on."""
        steps = (self.training.checkpoint_every or 1) * self.training.accumulate
        held = (
            _Listed(self._batches(self.validation, 0.0).one_pass()) if self.validation is not None else None
        )
        return {"x": self._stream(), "steps_per_epoch": steps, "validation_data": held}

    def measure(self, steps: int, run: RunDirectory) -> dict[str, float]:
        """Return where the data goes on after `steps` batches, and BLEU on the validation data.

        Some translations go to the log.
        """
        # TensorFlow asks for a few batches more than it has used.
        data_pass, batch = self.positions[steps]
        measured: dict[str, float] = {"data_pass": data_pass, "data_batch": batch}
        if self.validation is None:
            return measured
        import sacrebleu

        sources, targets = list(self.validation.inputs), self.validation.targets
        translations = translate(self.model, sources)
        for source, target, translation in list(zip(sources, targets, translations, strict=True))[:_SHOWN]:
            run.log(f"{source} | {target} | {translation}")
        return {**measured, "val_bleu": float(sacrebleu.corpus_bleu(translations, [targets]).score)}

    def _stream(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield batches, and write down where the one after each comes from."""
        stream = self._batches(self.train, self.dropout).stream(self.positions[0])
        _, inputs, labels = next(stream)
        for position, *coming in stream:
            self.positions.append(position)
            yield inputs, labels
            inputs, labels = coming

    def _batches(self, examples: Examples, dropout: float) -> TokenBatches:
        tokenizer = self.model.tokenizer
        if tokenizer is None or tokenizer.start_id is None:
            raise KzooError("Learning from pairs of texts needs a tokenizer with a start token.")
        sides = [
            SubwordDropout(tokenizer, list(map(str, texts)), rate=dropout, max_length=self.length)
            for texts in (examples.inputs, examples.targets)
        ]
        return TokenBatches(
            lambda random: (sides[0].draw(random), sides[1].draw(random)),
            batch_tokens=self.batch_tokens,
            seed=self.training.seed,
            start_id=tokenizer.start_id,
            pad_id=tokenizer.pad_id,
            fixed_shapes=compiles_each_shape(),
        )


class _Listed(keras.utils.PyDataset):
    """Batches that are there already."""

    def __init__(self, batches: Sequence[tuple[Any, Any]]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.batches[index]
