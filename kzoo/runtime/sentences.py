"""Sources on their way to a model: texts made tokens of, and put together to batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kzoo.errors import KzooError, did_you_mean
from kzoo.runtime.inputs import TextReader, warn_of_cuts

_TOGETHER = 1024  # texts that are made tokens of at once


class Sentence(NamedTuple):
    """A source's token ids, those that its target begins with, or is, and its place among the inputs."""

    place: int
    ids: np.ndarray
    target: list[int]


@dataclass(frozen=True)
class SentenceReader:
    """Makes sentences of texts.

    Attributes:
        reader: has the tokenizer, and the most tokens of a text.
        languages: what may be asked for, by a code such as `>>fr<<` in front of the source.
        name: the model's, for messages.
    """

    reader: TextReader
    languages: Sequence[str]
    name: str

    def read(self, items: list[str], prefix: str | Sequence[str], language: str | None) -> list[Sentence]:
        """Return the sentences of all texts that are not blank.

        Args:
            items: the texts.
            prefix: what the targets begin with, one for all or one each.
            language: of the targets.

        Raises:
            KzooError: the language is unknown, or there are more or fewer prefixes than texts.
        """
        prefixes = [prefix] * len(items) if isinstance(prefix, str) else list(prefix)
        if len(prefixes) != len(items):
            raise KzooError(
                f"There are {len(items)} texts and {len(prefixes)} prefixes: give one for each, or one for all."
            )
        start = self._language_ids(language)
        places = [place for place, item in enumerate(items) if item.strip()]
        if not places:
            return []
        begun = self._beginnings([prefixes[place] for place in places])
        rows = self._encode([items[place] for place in places], places, len(items), first=start)
        return [Sentence(*fields) for fields in zip(places, rows, begun, strict=True)]

    def read_pairs(self, sources: list[str], targets: list[str], language: str | None) -> list[Sentence]:
        """Return the sentences of sources with their whole targets.

        Raises:
            KzooError: the language is unknown, or there are more of one than of the other.
        """
        if len(sources) != len(targets):
            raise KzooError(
                f"There are {len(sources)} sources and {len(targets)} targets: give one for each."
            )
        ids = self._encode(sources, first=self._language_ids(language))
        written = self._encode(targets, target=True)
        return [
            Sentence(place, source, target.tolist())
            for place, (source, target) in enumerate(zip(ids, written, strict=True))
        ]

    def _language_ids(self, language: str | None) -> list[int]:
        if language is None:
            return []
        if language not in self.languages:
            known = "its one language" if not self.languages else f"{len(self.languages)} languages"
            raise KzooError(
                f"The model '{self.name}' does not translate into '{language}', but into {known}."
                f"{did_you_mean(language, self.languages)}"
            )
        token = self.reader.tokenizer.token_id(f">>{language}<<")
        return [] if token is None else [token]

    def _beginnings(self, prefixes: list[str]) -> list[list[int]]:
        given = [prefix.rstrip() for prefix in prefixes]
        distinct = sorted(set(given))
        if distinct == [""]:
            return [[] for _ in given]
        ids = self._encode(distinct, special_tokens=False, target=True)
        known = {prefix: row.tolist() if prefix else [] for prefix, row in zip(distinct, ids, strict=True)}
        return [known[prefix] for prefix in given]

    def _encode(
        self,
        texts: list[str],
        places: list[int] | None = None,
        total: int | None = None,
        first: Sequence[int] = (),
        **options: Any,
    ) -> list[np.ndarray]:
        """Return each text's token ids behind the `first` ones, cut to what the model takes."""
        rows, cut = [], []
        room = self.reader.max_length - len(first)
        for start in range(0, len(texts), _TOGETHER):
            encoding = self.reader.tokenizer.encode(
                texts[start : start + _TOGETHER], max_length=room, **options
            )
            sizes = encoding.attention_mask.sum(axis=1)
            pairs = zip(encoding.input_ids, sizes, strict=True)
            rows += [np.concatenate([np.array(first, np.int32), row[:size]]) for row, size in pairs]
            cut += (start + np.flatnonzero(encoding.truncated)).tolist()
        if cut:
            named = cut if places is None else [places[index] for index in cut]
            warn_of_cuts(named, total or len(texts), self.reader.max_length, stacklevel=4)
        return rows


def batches(
    sentences: Sequence[Sentence], batch_size: int, batch_tokens: int, alike: bool = True, lanes: int = 1
) -> Iterator[list[Sentence]]:
    """Yield sentences that run together, longest first; `alike` ones have prefixes of one length.

    What runs in several `lanes` at once has `batch_size` sentences and `batch_tokens` tokens in all.
    """
    for name, value in (("batch_size", batch_size), ("batch_tokens", batch_tokens)):
        if value < 1:
            raise KzooError(f"{name} is {value}; it must be at least 1.")
    batch_size = -(-min(batch_size, len(sentences)) // lanes)
    batch_tokens = -(-batch_tokens // lanes)
    batch: list[Sentence] = []
    longest = 0

    def kind(sentence: Sentence) -> int:
        return len(sentence.target) if alike else 0

    for sentence in sorted(sentences, key=lambda sentence: (kind(sentence), len(sentence.ids)), reverse=True):
        size = len(sentence.ids) if alike else max(len(sentence.ids), len(sentence.target) + 1)
        full = len(batch) == batch_size or max(longest, size) * (len(batch) + 1) > batch_tokens
        if batch and (full or kind(sentence) != kind(batch[0])):
            yield batch
            batch, longest = [], 0
        batch.append(sentence)
        longest = max(longest, size)
    if batch:
        yield batch


def padded(rows: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 (rows, length), padded on the right, and the rows' own lengths."""
    sizes = np.array([len(row) for row in rows])
    together = np.full((len(rows), sizes.max()), pad_id, np.int64)
    for index, row in enumerate(rows):
        together[index, : len(row)] = row
    return together, sizes
