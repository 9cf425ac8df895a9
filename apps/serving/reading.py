"""What a request brings, made into what a bundle's batches are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.runtime.inputs import ImageReader, Pixels, TextReader, Tokens
from kzoo.text import Text
from kzoo.vision import preprocess

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.text import Tokenizer

_WHOLE = 2**31 - 1
_PATCH = 16 * 16  # pixels that count as a token


@dataclass(frozen=True)
class Prepared:
    """Items as a bundle's queue takes them.

    Attributes:
        values: what its pipeline is called with.
        sizes: tokens of each, as far as the model reads it.
        truncated: whether a text was cut.
    """

    values: list[Any]
    sizes: list[int]
    truncated: list[bool]


class Reading:
    """Reads texts, token ids, words and images for one bundle; safe to use from many threads.

    Args:
        pipeline: the bundle's.
        max_tokens: most tokens of a text, those that are cut off included.
    """

    def __init__(self, pipeline: Pipeline, max_tokens: int):
        self._pipeline = pipeline
        self._reader = pipeline.reader
        self._max_tokens = max_tokens

    @property
    def takes_images(self) -> bool:
        """Whether it reads images, not texts."""
        return isinstance(self._reader, ImageReader)

    @property
    def max_length(self) -> int:
        """Most tokens that the model reads of a text."""
        return self._text_reader.max_length

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes the tokens."""
        return self._text_reader.tokenizer

    @property
    def _text_reader(self) -> TextReader:
        if not isinstance(self._reader, TextReader):
            raise KzooError(f"'{self._pipeline.name}' takes images, not texts.")
        return self._reader

    def texts(self, texts: Sequence[Text]) -> Prepared:
        """Read texts or pairs of them.

        Raises:
            KzooError: one is of the wrong kind, or has more tokens than this server takes.
        """
        reader = self._text_reader
        items, _ = reader.listed(list(texts))
        encoding = reader.tokenizer.encode(items, max_length=reader.max_length, keep=reader.keep)
        sizes = encoding.attention_mask.sum(axis=1).tolist()
        truncated = encoding.truncated.tolist()
        for place, (item, cut) in enumerate(zip(items, truncated, strict=True)):
            self._check_size(place, self._count(item) if cut else sizes[place])
        if self._pipeline.task == "qa":  # reads what is too long in windows
            truncated = [False] * len(items)
        if not self._pipeline.takes_tokens:
            return Prepared(items, sizes, truncated)
        values: list[Any] = [
            Tokens(ids[:size], types[:size])
            for ids, types, size in zip(encoding.input_ids, encoding.token_type_ids, sizes, strict=True)
        ]
        return Prepared(values, sizes, truncated)

    def token_ids(self, rows: Sequence[Sequence[int]]) -> Prepared:
        """Read token ids; the tokenizer's special ones are put around those that lack them.

        Raises:
            KzooError: the bundle takes none, one is none of its tokens, or there are too many.
        """
        if not self._pipeline.takes_tokens:
            raise KzooError(f"'{self._pipeline.name}' takes texts, not token ids.")
        start, end = self._frame
        values, truncated = [], []
        for place, row in enumerate(rows):
            if not row:
                raise KzooError(f"Item {place} has no token ids.")
            wrong = [index for index in row if not 0 <= index < self.tokenizer.vocab_size]
            if wrong:
                raise KzooError(
                    f"Item {place} has the token id {wrong[0]}; they go from 0 to {self.tokenizer.vocab_size - 1}."
                )
            ids = list(row)
            if ids[: len(start)] == start and ids[len(ids) - len(end) :] == end:
                ids = ids[len(start) : len(ids) - len(end)]
            self._check_size(place, len(start) + len(ids) + len(end))
            room = self.max_length - len(start) - len(end)
            truncated.append(len(ids) > room)
            whole = np.array([*start, *ids[:room], *end], np.int32)
            values.append(Tokens(whole, np.zeros(len(whole), np.int32)))
        return Prepared(values, [len(value.ids) for value in values], truncated)

    def words(self, rows: Sequence[Sequence[str]]) -> Prepared:
        """Read texts whose tokens were made elsewhere; those that the vocabulary lacks are unknown.

        Raises:
            KzooError: as `token_ids` does, or the vocabulary has no token for what is unknown.
        """
        unknown = next(filter(None, map(self.tokenizer.token_id, ("[UNK]", "<unk>"))), None)
        ids: list[list[int]] = []
        for row in rows:
            found = [self.tokenizer.token_id(word) for word in row]
            if unknown is None and None in found:
                raise KzooError(f"'{row[found.index(None)][:60]}' is none of the model's tokens.")
            ids.append([unknown or 0 if index is None else index for index in found])
        return self.token_ids(ids)

    def images(self, files: Sequence[bytes]) -> Prepared:
        """Read image files.

        Raises:
            KzooError: the bundle takes texts, or one is no image file.
        """
        if not isinstance(self._reader, ImageReader):
            raise KzooError(f"'{self._pipeline.name}' takes texts, not images.")
        settings = self._reader.settings
        values = [Pixels(values) for values in preprocess(files, settings)]
        size = max(1, settings.height * settings.width // _PATCH)
        return Prepared(list(values), [size] * len(files), [False] * len(files))

    @cached_property
    def names(self) -> dict[int, str]:
        """The entries of the vocabulary by their ids."""
        return {index: name for name, index in self.tokenizer.vocabulary.items()}

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        plain = self.tokenizer.encode(["a"], max_length=_WHOLE, special_tokens=False).input_ids[0].tolist()
        whole = self.tokenizer.encode(["a"], max_length=_WHOLE).input_ids[0].tolist()
        places = range(len(whole) - len(plain) + 1)
        start = next(place for place in places if whole[place : place + len(plain)] == plain)
        return whole[:start], whole[start + len(plain) :]

    def _count(self, text: Text) -> int:
        return int(self.tokenizer.encode([text], max_length=_WHOLE).attention_mask.sum())

    def _check_size(self, place: int, size: int) -> None:
        if size > self._max_tokens:
            raise KzooError(
                f"Item {place} has more than {self._max_tokens:,} tokens, the most that this server takes."
            )
