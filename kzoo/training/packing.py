"""Documents packed into rows of one length, of which each token is to tell the next, or some are to be guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.training.masking import Masking
from kzoo.training.objectives import IGNORED
from kzoo.training.token_batches import Position


class PackedBatches:
    """Passes over documents, without end, laid one behind another and cut into rows.

    A document that does not fit into the rest of its row goes on in the next one, and sees nothing there of what was
    cut off. What a pass holds depends on the seed and its number alone, so that a stream can begin anywhere.

    Args:
        documents: token ids of each, int (tokens,).
        length: tokens a row.
        rows: rows a batch.
        seed: what the order of documents and rows, and the place of the first cut, depend on.
        pad_id: the token that fills the last row up.
        shuffled: whether these differ from pass to pass; else all is in order, and no token is left out.

    Raises:
        KzooError: no document has two tokens.
    """

    # How far ahead of itself a token's label lies, and whether a row's padding would be seen by its tokens.
    _told_ahead = 1
    _shows_padding = False

    def __init__(
        self,
        documents: Sequence[np.ndarray],
        *,
        length: int,
        rows: int,
        seed: int = 0,
        pad_id: int = 0,
        shuffled: bool = True,
    ) -> None:
        self.documents = [np.asarray(document, np.int32) for document in documents]
        self.length, self.rows, self.seed, self.pad_id, self.shuffled = length, rows, seed, pad_id, shuffled
        if max(map(len, self.documents), default=0) < 2:
            raise KzooError("There is too little text to learn from: each token is to tell the next.")

    def stream(self, start: Position) -> Iterator[tuple[Position, Any, np.ndarray]]:
        """Yield position, inputs by name and labels of each batch from `start` on."""
        number, first = start
        while True:
            for place, batch in enumerate(self.one_pass(number)):
                if place >= first:
                    yield Position(number, place), *batch
            number, first = number + 1, 0

    def one_pass(self, number: int = 0) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield inputs by name, each int32 (rows, length), and labels of all batches of a pass."""
        random = np.random.default_rng((self.seed, number))
        order = random.permutation(len(self.documents)) if self.shuffled else np.arange(len(self.documents))
        pieces = [self.documents[place] for place in order]
        sizes = np.array([*map(len, pieces)])
        ids = np.concatenate(pieces)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        # Where rows begin, tokens are told from little: not the same ones in each pass.
        first_cut = random.integers(self.length) if self.shuffled and len(ids) > 2 * self.length else 0
        cuts = np.arange(first_cut, len(ids) - self._told_ahead, self.length)
        # All batches have as many rows, so that backends compile one shape: some come twice in a pass.
        if self.shuffled:
            cuts = np.resize(random.permutation(cuts), -(-len(cuts) // self.rows) * self.rows)
        shown, labels = self._lesson(ids, starts, order, random)
        for first in range(0, len(cuts), self.rows):
            yield self._arrays(shown, labels, starts, cuts[first : first + self.rows])

    def _lesson(
        self, ids: np.ndarray, starts: np.ndarray, order: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what is read of all tokens of a pass, and the label at each of these places."""
        return ids[:-1], np.where(starts[:-1] == starts[1:], ids[1:], IGNORED)

    def _arrays(
        self, shown: np.ndarray, labels: np.ndarray, starts: np.ndarray, cuts: np.ndarray
    ) -> tuple[Any, np.ndarray]:
        places = cuts[:, None] + np.arange(self.length)
        inside, read = places < len(shown), np.minimum(places, len(shown) - 1)
        inputs = {"input_ids": np.where(inside, shown[read], self.pad_id).astype(np.int32)}
        if self._shows_padding:
            inputs["attention_mask"] = inside.astype(np.int32)
        if len(self.documents) > 1:
            # Padding counts as the first document's: its places are some that there are.
            own = np.where(inside, starts[read] - cuts[:, None], 0)
            inputs["document_starts"] = np.maximum(own, 0).astype(np.int32)
        return inputs, np.where(inside, labels[read], IGNORED).astype(np.int32)


class MaskedBatches(PackedBatches):
    """Passes over documents packed into rows, as `PackedBatches` makes them, of which some tokens are to be guessed.

    Which tokens is drawn anew in each pass. Inputs have an `attention_mask` too.

    Args:
        documents: token ids of each, int (tokens,).
        masking: how many tokens are to be guessed, and which.
        words: for each document the number of each token's word, int (tokens,), for whole words.
        **options: as for `PackedBatches`.

    Raises:
        KzooError: no document has two tokens, or whole words are to be guessed and `words` is left out.
    """

    # A token's label is the token itself, and its right-hand neighbours are seen.
    _told_ahead = 0
    _shows_padding = True

    def __init__(
        self,
        documents: Sequence[np.ndarray],
        masking: Masking,
        *,
        words: Sequence[np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(documents, **options)
        self.masking, self.words = masking, words
        if masking.whole_words and words is None:
            raise KzooError("Whole words cannot be hidden: say which tokens make a word, words=....")

    def _lesson(
        self, ids: np.ndarray, starts: np.ndarray, order: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        numbers = None
        if self.words is not None:
            words = np.concatenate([self.words[place] for place in order])
            # Another word, or the same number in another document.
            begins = (np.diff(words, prepend=-2) != 0) | (np.diff(starts, prepend=-1) != 0)
            numbers = np.cumsum(begins) - 1
        shown, guessed = self.masking.draw(ids, random, numbers)
        return shown, np.where(guessed, ids, IGNORED)
