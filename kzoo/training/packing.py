"""Documents packed into rows of one length, of which each token is to tell the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kzoo.errors import KzooError
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
        order = random.permutation(len(self.documents)) if self.shuffled else range(len(self.documents))
        pieces = [self.documents[place] for place in order]
        sizes = np.array([*map(len, pieces)])
        ids = np.concatenate(pieces)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        # Where rows begin, tokens are told from little: not the same ones in each pass.
        first_cut = random.integers(self.length) if self.shuffled and len(ids) > 2 * self.length else 0
        cuts = np.arange(first_cut, len(ids) - 1, self.length)
        # All batches have as many rows, so that backends compile one shape: some come twice in a pass.
        if self.shuffled:
            cuts = np.resize(random.permutation(cuts), -(-len(cuts) // self.rows) * self.rows)
        for first in range(0, len(cuts), self.rows):
            yield self._arrays(ids, starts, cuts[first : first + self.rows])

    def _arrays(self, ids: np.ndarray, starts: np.ndarray, cuts: np.ndarray) -> tuple[Any, np.ndarray]:
        places = cuts[:, None] + np.arange(self.length)
        read, told = np.minimum(places, len(ids) - 1), np.minimum(places + 1, len(ids) - 1)
        inside = places < len(ids) - 1
        labels = np.where(inside & (starts[read] == starts[told]), ids[told], IGNORED)
        inputs = {"input_ids": np.where(inside, ids[read], self.pad_id).astype(np.int32)}
        if len(self.documents) > 1:
            inputs["document_starts"] = np.maximum(starts[read] - cuts[:, None], 0).astype(np.int32)
        return inputs, labels.astype(np.int32)
