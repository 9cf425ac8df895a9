"""Batches of sentence pairs by the number of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np

from kzoo.training.batches import bucket_length
from kzoo.training.objectives import IGNORED

# Token ids of each source and of each target, end tokens included.
Pairs = tuple[list[list[int]], list[list[int]]]


class Position(NamedTuple):
    """A place in the stream of batches: a pass over the data, and a batch of that pass, both from 0."""

    data_pass: int
    batch: int


class TokenBatches:
    """Passes over sentence pairs, without end, in batches of as many tokens, pairs of like lengths together.

    What a pass holds depends on the seed and its number alone, so that a stream can begin anywhere.

    Args:
        draw: makes the pairs of a pass, given that pass' generator.
        batch_tokens: most tokens of a batch on either side, padding included; a longer pair is a batch by itself.
        seed: what order, and whatever `draw` leaves to chance, depends on.
        start_id: the token that decoders start with.
        pad_id: the token that fills rows up.
        fixed_shapes: whether to fill batches up to a few shapes, for a backend that compiles each of them.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator], Pairs],
        *,
        batch_tokens: int,
        seed: int,
        start_id: int,
        pad_id: int,
        fixed_shapes: bool = False,
    ) -> None:
        self.draw, self.batch_tokens, self.seed = draw, batch_tokens, seed
        self.start_id, self.pad_id, self.fixed_shapes = start_id, pad_id, fixed_shapes

    def stream(self, start: Position) -> Iterator[tuple[Position, Any, np.ndarray]]:
        """Yield position, inputs by name and labels of each batch from `start` on."""
        number, first = start
        # The next pass is made ready while this one is learnt from.
        with ThreadPoolExecutor(max_workers=1) as worker:
            coming = worker.submit(self.batches_of, number)
            while True:
                batches = coming.result()
                coming = worker.submit(self.batches_of, number + 1)
                for index in range(first, len(batches)):
                    yield Position(number, index), *self._arrays(*batches[index])
                number, first = number + 1, 0

    def one_pass(self, number: int = 0) -> list[tuple[Any, np.ndarray]]:
        """Return inputs by name and labels of all batches of a pass."""
        return [self._arrays(*batch) for batch in self.batches_of(number)]

    def batches_of(self, number: int) -> list[Pairs]:
        """Return the batches of a pass."""
        random = np.random.default_rng((self.seed, number))
        sources, targets = self.draw(random)
        sizes = np.array(
            [[len(source), len(target)] for source, target in zip(sources, targets, strict=True)]
        )
        batches = [
            ([sources[row] for row in rows], [targets[row] for row in rows])
            for rows in self._rows(sizes, random)
        ]
        return [batches[index] for index in random.permutation(len(batches))]

    def _rows(self, sizes: np.ndarray, random: np.random.Generator) -> Iterator[list[int]]:
        """Cut pairs, sorted by their lengths, into batches."""
        if self.fixed_shapes:
            sizes = np.array([[self._bucket(max(pair))] * 2 for pair in sizes.tolist()])
        shuffled = random.permutation(len(sizes))
        source, target = sizes[shuffled].T
        # Sources of every other target length run from long to short, so that neighbours are always alike.
        order = shuffled[np.lexsort((np.where(target % 2, -source, source), target))]
        rows: list[int] = []
        longest = 0
        for row in order.tolist():
            size = int(max(sizes[row]))
            full = max(longest, size) * (len(rows) + 1) > self.batch_tokens
            if rows and (full or (self.fixed_shapes and size != longest)):
                yield rows
                rows, longest = [], 0
            rows.append(row)
            longest = max(longest, size)
        yield rows

    def _bucket(self, length: int) -> int:
        return max(length, bucket_length(length, self.batch_tokens))

    def _arrays(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> tuple[Any, np.ndarray]:
        lengths, count = [max(map(len, side)) for side in (sources, targets)], len(sources)
        if self.fixed_shapes:
            lengths = [self._bucket(max(lengths))] * 2
            count = max(count, self.batch_tokens // lengths[0])
        ids = _padded(sources, count, lengths[0], self.pad_id)
        labels = _padded(targets, count, lengths[1], IGNORED)
        real = np.arange(lengths[0]) < np.array([*map(len, sources), *[0] * (count - len(sources))])[:, None]
        start = np.full((count, 1), self.start_id, np.int32)
        shifted = np.where(labels[:, :-1] == IGNORED, self.pad_id, labels[:, :-1])
        inputs = {
            "input_ids": ids,
            "attention_mask": real.astype(np.int32),
            "decoder_input_ids": np.concatenate([start, shifted], axis=1),
        }
        return inputs, labels


def compiles_each_shape() -> bool:
    """Return whether the backend compiles a step anew for each shape of its batches."""
    return keras.backend.backend() == "jax"


def _padded(rows: Sequence[list[int]], count: int, length: int, filler: int) -> np.ndarray:
    padded = np.full((count, length), filler, np.int32)
    for place, row in zip(padded, rows, strict=False):
        place[: len(row)] = row
    return padded
