"""Texts varied at random, so that a model learns from more of them than there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kzoo.text.strings import Text, parts_of

# How many words in a row are hidden at most.
_LONGEST_SPAN = 3
# Of the texts, how many are said in other words where there is a way to.
_BACK_TRANSLATED = 0.5

Share = Annotated[float, Field(ge=0, lt=1)]


class TextAugmentation(BaseModel):
    """How far texts are varied; what is drawn is drawn anew for every text, 0 leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    word_dropout: Share = 0.0
    """Share of the words that are left out; one word at least stays."""

    swap: Share = 0.0
    """Share of the words that change places with the next one."""

    span_mask: Share = 0.0
    """Share of the words that are hidden, one to three in a row; a mask token stands for them, if there is one."""

    excerpt: Share = 0.0
    """Share of the texts of which some words in a row alone stay, one to all; what such a text means may differ, so
    this is for texts whose labels a teacher gives (cf. n-gram sampling: Tang et al., 2019, section 3.3)."""

    back_translation: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """Two bundles, one that translates into another language and one that translates back: half of the texts
    are said in the words that come out."""


def augment_texts(
    texts: Sequence[Text],
    amounts: TextAugmentation,
    random: np.random.Generator,
    *,
    mask_token: str | None = None,
    translate: Callable[[list[str]], list[str]] | None = None,
) -> list[Text]:
    """Vary each text at random: said in other words; words left out, swapped, hidden and cut away, in this order.

    Args:
        texts: texts, or pairs of texts, whose sides are varied each by itself; words stand between blanks.
        amounts: how far each variation goes.
        random: where the variations are drawn from; the same state gives the same texts.
        mask_token: what stands for hidden words, such as `"[MASK]"`; without one they are left out.
        translate: says texts in other words, for `amounts.back_translation`; it is called once, with the texts
            that were drawn.

    Returns:
        As many texts, or pairs, in order.

    Example:
        >>> augment_texts(["a dog runs"], TextAugmentation(swap=0.9), np.random.default_rng(0))
        ['dog runs a']
    """
    sides = [part for text in texts for part in parts_of(text)]
    if amounts.back_translation is not None and translate is not None:
        drawn = np.flatnonzero(random.random(len(sides)) < _BACK_TRANSLATED)
        said = translate([sides[index] for index in drawn]) if len(drawn) else []
        for index, text in zip(drawn, said, strict=True):
            sides[index] = text if text.strip() else sides[index]
    varied = iter([_vary(side, amounts, random, mask_token) for side in sides])
    return [next(varied) if isinstance(text, str) else (next(varied), next(varied)) for text in texts]


def _vary(text: str, amounts: TextAugmentation, random: np.random.Generator, mask_token: str | None) -> str:
    words = text.split()
    if not words:
        return text
    drops, swaps, hides = random.random((3, len(words)))
    kept = [word for word, chance in zip(words, drops, strict=True) if chance >= amounts.word_dropout]
    varied = kept or [words[int(drops.argmax())]]
    for place in np.flatnonzero(swaps[: len(varied) - 1] < amounts.swap):
        varied[place], varied[place + 1] = varied[place + 1], varied[place]
    varied = _hide(varied, hides, amounts.span_mask, random, mask_token)
    # Nothing is drawn where nothing is cut: the other variations stay what they were.
    if amounts.excerpt and random.random() < amounts.excerpt:
        length = int(random.integers(1, len(varied) + 1))
        start = int(random.integers(0, len(varied) - length + 1))
        varied = varied[start : start + length]
    return text if varied == words else " ".join(varied)


def _hide(
    words: list[str], chances: np.ndarray, share: float, random: np.random.Generator, mask_token: str | None
) -> list[str]:
    """Return words with some rows of them hidden, so that `share` of all are on average."""
    if not share:
        return words
    # Of the places where no row runs on, so many start one that the share comes out: rows are two words on average.
    length = (1 + _LONGEST_SPAN) / 2
    start = share / (length - share * (length - 1))
    lengths = random.integers(1, _LONGEST_SPAN + 1, len(words))
    shown: list[str | None] = []
    place = 0
    while place < len(words):
        hidden = chances[place] < start
        shown.append(mask_token if hidden else words[place])
        place += int(lengths[place]) if hidden else 1
    if all(word is mask_token for word in shown):
        return words
    return [word for word in shown if word is not None]
