"""Hiding tokens that a model is to guess."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kzoo.errors import KzooError

# Of the tokens to guess: how many are hidden, how many become another token, while the rest stay as they are
# (Devlin et al., 2018, A.1).
_HIDDEN, _SWAPPED = 0.8, 0.1


@dataclass(frozen=True)
class Masking:
    """Which tokens a model is to guess, and what it sees in their place (Devlin et al., 2018, A.1).

    Of the tokens to guess eight tenths are hidden, one tenth become another token, and the rest stay.

    Attributes:
        mask_id: the token that hides another one.
        vocab_size: number of tokens that one may be swapped with.
        special_ids: tokens that are never to guess.
        share: how many of the others are.
        whole_words: whether all tokens of a word are to guess, or none.

    Raises:
        KzooError: a share that is none.

    Example:
        >>> masking = Masking(mask_id=4, vocab_size=10, share=0.9, whole_words=True)
        >>> ids, words = np.array([5, 6, 7, 8]), np.array([0, 0, 1, 1])
        >>> _, guessed = masking.draw(ids, np.random.default_rng(0), words)
        >>> guessed.tolist()
        [True, True, True, True]
    """

    mask_id: int
    vocab_size: int
    special_ids: frozenset[int] = frozenset()
    share: float = 0.15
    whole_words: bool = False

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0.0 < self.share < 1.0:
            raise KzooError(f"share={self.share} of the tokens to guess: give a number between 0 and 1.")

    def draw(
        self, ids: np.ndarray, random: np.random.Generator, words: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the model sees in place of tokens, and bool of that shape: which of them it is to guess.

        Args:
            ids: int, of any shape.
            random: where chance comes from.
            words: the number of each token's word, from 0, for whole words.

        Raises:
            KzooError: whole words, and nobody says which tokens make one.
        """
        if self.whole_words and words is None:
            raise KzooError("Whole words cannot be hidden: nobody says which tokens make a word.")
        if self.whole_words and words is not None:
            chosen = (random.random(words.max(initial=0) + 1) < self.share)[words]
        else:
            chosen = random.random(ids.shape) < self.share
        guessed = chosen & ~np.isin(ids, list(self.special_ids))
        fate = random.random(ids.shape)
        others = random.integers(0, self.vocab_size, ids.shape)
        shown = np.where(fate < _HIDDEN, self.mask_id, np.where(fate < _HIDDEN + _SWAPPED, others, ids))
        return np.where(guessed, shown, ids).astype(ids.dtype), guessed
