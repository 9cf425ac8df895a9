"""The texts that a recipe trains on, where they do not go to the model as they are: varied, or in pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.data import Examples, TextAugmentation, augment_texts, lines_of, locate, read_texts
from kzoo.recipes.data.back_translation import back_translator
from kzoo.recipes.directory import RunDirectory
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.data_kinds import listed
from kzoo.recipes.schema.sections import DistillationSection, PretrainingSection
from kzoo.text import Tokenizer
from kzoo.training.batches import EncodedBatches
from kzoo.training.similarity import interleave

# Texts that are encoded together, to be counted.
_ENCODED = 1024
Vary = Callable[[list[Any]], list[Any]]


def text_batches(
    examples: Examples,
    recipe: Recipe,
    vary: Vary | None = None,
    weights: np.ndarray | None = None,
    learn: bool = True,
) -> EncodedBatches:
    """Return texts in batches, before they are encoded.

    Args:
        examples: texts or pairs of texts.
        recipe: the recipe; for the task `"embedding"` both texts of a pair go through the model.
        vary: makes other texts of a batch's.
        weights: how much each example counts.
        learn: whether to shuffle.
    """

    def prepare(
        x: Any, y: Any = None, sample_weight: Any = None, length: int | None = None
    ) -> tuple[Any, ...]:
        texts = vary(x) if vary is not None else x
        if recipe.task == "embedding":
            return interleave(texts, y)
        return (texts, y) if sample_weight is None else (texts, y, sample_weight)

    size = recipe.training.batch_size
    return EncodedBatches(list(examples.inputs), examples.targets, weights, prepare, size, shuffle=learn)


def read_unlabelled(section: DistillationSection | PretrainingSection, beside: Path) -> list[str]:
    """Return the texts without labels that a section names: of plain files a text a line, those of blanks left out.

    Raises:
        KzooError: a file is not there or damaged, or has no such column.
    """
    files = [locate(name, beside) for name in section.unlabelled]
    columns = listed(section.unlabelled_text)
    if columns:
        return [text for file in files for text in read_texts(file, columns)]
    return [line.strip() for file in files for _, line in lines_of(file) if line.strip()]


def count_cut(examples: Examples | None, recipe: Recipe, tokenizer: Tokenizer, max_length: int) -> int:
    """Return how many of the examples have texts that are longer than the model takes, and are cut."""
    texts: list[Any] = list(examples.inputs) if examples is not None else []
    if recipe.task == "embedding":
        texts = [text for pair in texts for text in pair]
    chunks = (texts[start : start + _ENCODED] for start in range(0, len(texts), _ENCODED))
    return sum(int(tokenizer.encode(chunk, max_length=max_length).truncated.sum()) for chunk in chunks)


def varier(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer | None, run: RunDirectory, beside: Path
) -> Vary | None:
    """Return what varies texts as the recipe says, if it says so.

    Args:
        recipe: the recipe.
        examples: the training examples, whose texts are said in other words once, if the recipe wants that.
        tokenizer: knows what a hidden word looks like.
        run: how far the run is.
        beside: the folder of the recipe, which names the bundles that translate.

    Raises:
        KzooError: a bundle cannot be found, or opened.
    """
    amounts = recipe.text.augment if recipe.text is not None else TextAugmentation()
    if amounts == TextAugmentation():
        return None
    random = np.random.default_rng((recipe.training.seed, run.last_epoch()))
    mask_token = None
    if tokenizer is not None and tokenizer.mask_id is not None:
        mask_token = tokenizer.decode([tokenizer.mask_id], skip_special_tokens=False).strip()
    translate = None
    if amounts.back_translation is not None:
        translate = back_translator(amounts.back_translation, beside, examples.inputs, run.say)

    def vary(texts: list[Any]) -> list[Any]:
        return augment_texts(texts, amounts, random, mask_token=mask_token, translate=translate)

    return vary
