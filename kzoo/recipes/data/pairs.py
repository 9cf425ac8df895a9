"""Training on pairs of texts: batches by tokens, and real translations of the validation data on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.data.streaming import StreamedBatches
from kzoo.recipes.directory import RunDirectory
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.sections import TextSection
from kzoo.recipes.training.decoding import translate
from kzoo.text.subwords import SubwordDropout
from kzoo.training import TokenBatches, compiles_each_shape

# How many translations the log shows after each checkpoint.
_SHOWN = 3


class PairBatches(StreamedBatches):
    """Pairs of texts; the arguments are those of `StreamedBatches`."""

    def __init__(
        self, model: TransformerModel, recipe: Recipe, parts: Parts, history: Sequence[dict[str, Any]]
    ) -> None:
        super().__init__(model, recipe, parts, history)
        self.length = min(model.max_length or self.batch_tokens, self.batch_tokens)
        self.dropout = (recipe.text or TextSection()).dropout

    def measure(self, steps: int, run: RunDirectory) -> dict[str, float]:
        """Return where the data goes on after `steps` batches, and BLEU on the validation data.

        Some translations go to the log.
        """
        measured = super().measure(steps, run)
        if self.validation is None:
            return measured
        import sacrebleu

        sources, targets = list(self.validation.inputs), self.validation.targets
        translations = translate(self.model, sources)
        for source, target, translation in list(zip(sources, targets, translations, strict=True))[:_SHOWN]:
            run.log(f"{source} | {target} | {translation}")
        return {**measured, "val_bleu": float(sacrebleu.corpus_bleu(translations, [targets]).score)}

    def batches(self, examples: Examples, learns: bool) -> TokenBatches:
        """Return pairs of like lengths together, split in other ways in each pass if they are learnt from."""
        tokenizer = self.model.tokenizer
        if tokenizer is None or tokenizer.start_id is None:
            raise KzooError("Learning from pairs of texts needs a tokenizer with a start token.")
        sides = [
            SubwordDropout(
                tokenizer, list(map(str, texts)), rate=self.dropout if learns else 0.0, max_length=self.length
            )
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
