"""BPE-dropout: words cut into other tokens each time they are seen (Provilkov et al., 2020)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np

from kzoo.errors import KzooError
from kzoo.text.loading import from_json
from kzoo.text.tokenizer import Tokenizer

# Adjacent tokens, and the rank and the token of their merge.
_Merges = dict[tuple[int, int], tuple[int, int]]


class SubwordDropout:
    """Token ids of the same texts, drawn again and again, now and then without one of the merges.

    The `tokenizers` library draws too, though from a generator that no seed reaches.

    Args:
        tokenizer: a BPE one, such as `Tokenizer.train(..., kind="bpe")` makes.
        texts: what is encoded at each draw.
        rate: how often a merge is left out, from 0 to below 1; 0 gives what the tokenizer gives.
        max_length: most tokens of a text, special ones included.

    Raises:
        KzooError: a rate out of range, or a tokenizer of another kind.

    Example:
        >>> tokenizer = Tokenizer.train(["low lower lowest"], kind="bpe", vocab_size=270)
        >>> plain = SubwordDropout(tokenizer, ["lower"], rate=0.0, max_length=16).draw(np.random.default_rng(0))
        >>> plain[0] == tokenizer.encode(["lower"], max_length=16).input_ids[0].tolist()
        True
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], *, rate: float, max_length: int) -> None:
        if not 0 <= rate < 1:
            raise KzooError(f"The rate of BPE-dropout is {rate}; it must be at least 0 and below 1.")
        backend = from_json(tokenizer.to_json()).backend
        self.rate = rate
        self._vocabulary, self._merges = _read_merges(json.loads(backend.to_str())["model"])
        self._before, self._after = _special_ids(tokenizer)
        self._room = max_length - len(self._before) - len(self._after)
        words: dict[str, int] = {}
        self._texts: list[list[int]] = []
        for text in texts:
            normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
            pieces = backend.pre_tokenizer.pre_tokenize_str(normal)
            self._texts.append([words.setdefault(piece, len(words)) for piece, _ in pieces])
        # Each word's tokens before the first merge, after it, and so on.
        self._ways = [self._way(word) for word in words]

    def draw(self, random: np.random.Generator) -> list[list[int]]:
        """Return the token ids of each text; the same state of `random` gives the same ones."""
        count = sum(map(len, self._texts))
        # How many merges go well before one is left out: most often as many as a word needs.
        kept = random.geometric(self.rate, count) - 1 if self.rate else np.full(count, np.iinfo(np.int64).max)
        merges = iter(kept.tolist())
        drawn = []
        for words in self._texts:
            ids: list[int] = []
            for word in words:
                way, done = self._ways[word], next(merges)
                ids += way[-1] if done >= len(way) - 1 else self._stray(way[done], random)
            drawn.append([*self._before, *ids[: self._room], *self._after])
        return drawn

    def _way(self, word: str) -> list[list[int]]:
        try:
            way = [[self._vocabulary[letter] for letter in word]]
        except KeyError as error:
            raise KzooError(
                f"The tokenizer has no entry for {error.args[0]!r}: BPE-dropout needs all."
            ) from None
        while candidates := self._candidates(way[-1]):
            way.append(_merged(way[-1], candidates[0]))
        return way

    def _stray(self, ids: list[int], random: np.random.Generator) -> list[int]:
        """Go on from where the first of the possible merges was left out."""
        candidates = self._candidates(ids)[1:]
        while True:
            chosen = next((one for one in candidates if random.random() >= self.rate), None)
            if chosen is None:
                return ids
            ids = _merged(ids, chosen)
            candidates = self._candidates(ids)

    def _candidates(self, ids: list[int]) -> list[tuple[int, int, int]]:
        """Return rank, place and result of each possible merge, the first one first."""
        found = ((self._merges.get(pair), place) for place, pair in enumerate(itertools.pairwise(ids)))
        return sorted((merge[0], place, merge[1]) for merge, place in found if merge is not None)


def _merged(ids: list[int], merge: tuple[int, int, int]) -> list[int]:
    _, place, result = merge
    return [*ids[:place], result, *ids[place + 2 :]]


def _read_merges(model: dict) -> tuple[dict[str, int], _Merges]:
    plain = not any(
        model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    )
    if model["type"] != "BPE" or not plain:
        raise KzooError(
            "BPE-dropout is for tokenizers of BPE without marks inside words, such as "
            "Tokenizer.train(texts, kind='bpe') makes."
        )
    vocabulary = model["vocab"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges: _Merges = {}
    for rank, (left, right) in enumerate(pairs):
        merges[vocabulary[left], vocabulary[right]] = rank, vocabulary[left + right]
    return vocabulary, merges


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before a text, and after it."""
    whole, bare = (
        tokenizer.encode(["a"], max_length=64, special_tokens=special).input_ids[0].tolist()
        for special in (True, False)
    )
    place = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:place], whole[place + len(bare) :]
