"""One tokenizer class for all models, over the `tokenizers` library."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers

from kzoo.errors import KzooError
from kzoo.text.loading import Loaded, from_json, load, to_json
from kzoo.text.strings import Text, check_text, parts_of
from kzoo.text.training import train

# The names that published tokenizers give to the same roles, most specific first.
_PAD = ("[PAD]", "<pad>", "<|endoftext|>")
_START = ("[CLS]", "<s>", "<|startoftext|>", "<|begin_of_text|>", "<|endoftext|>")
_END = ("[SEP]", "</s>", "<|end_of_text|>", "<|endoftext|>")
_MASK = ("[MASK]", "<mask>")
# Marian's, in front of what is to be translated.
_LANGUAGE = re.compile(r">>([A-Za-z_-]+)<<")
# T5's, which stand for gaps in what it reads and in what it writes.
_SENTINEL = ("<extra_id_0>",)


@dataclass(frozen=True)
class Encoding:
    """A batch of token ids, padded on the right.

    Attributes:
        input_ids: int32 (batch, length).
        attention_mask: int32 (batch, length), 1 for real tokens and 0 for padding.
        token_type_ids: int32 (batch, length), 1 for the tokens of a pair's second text.
        truncated: bool (batch,), whether the text was cut to `max_length`.
        offsets: int32 (batch, length, 2), where each token's characters start and end in its own text; 0, 0 for
            special tokens and padding. These last three are None unless `encode` was asked for them.
        sequence_ids: int32 (batch, length), 0 for tokens of the text or a pair's first, 1 for those of its
            second, -1 for special tokens and padding.
        word_ids: int32 (batch, length), the place of the token's word among its own text's words; -1 where
            `sequence_ids` is.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray
    truncated: np.ndarray
    offsets: np.ndarray | None = None
    sequence_ids: np.ndarray | None = None
    word_ids: np.ndarray | None = None


class Tokenizer:
    """Turns texts into token ids and back.

    Safe to use from many threads at once: encoding changes no state. Special tokens written in a text
    are plain text (`"</s>"` is four characters, not the end), unless the vocabulary has a mask token, or T5's
    sentinels: then they are read as special, so that `"The [MASK] barks."` means what it says.

    Attributes:
        pad_id: the id that fills rows up.
        start_id: what starts a text, or what a decoder starts with, such as `[CLS]`, `<s>`, or T5's `<pad>`. It
            comes from config.json's `decoder_start_token_id` where there is one. These three may be set, and are
            saved.
        end_id: what ends a text; None if there is no such token.

    Example:
        >>> tokenizer = Tokenizer.train(["a dog runs", "a cat sleeps"], kind="bpe", vocab_size=300)
        >>> encoding = tokenizer.encode(["a dog", "a cat sleeps"], max_length=16)
        >>> tokenizer.decode(encoding.input_ids[1])
        'a cat sleeps'
    """

    def __init__(self, loaded: Loaded):
        backend = loaded.backend
        # Truncation and padding belong to the call; settings saved in a file would be applied twice.
        saved_padding = backend.padding
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._sides = loaded.sides
        backend.encode_special_tokens = self._first(_MASK + _SENTINEL) is None
        saved_pad = saved_padding["pad_id"] if saved_padding else None
        stated = {
            "pad_id": saved_pad if loaded.pad_id is None else loaded.pad_id,
            "start_id": loaded.start_id,
            "end_id": loaded.end_id,
        }
        likely = self._likely_ids()
        ids = {name: likely[name] if index is None else index for name, index in stated.items()}
        self.pad_id: int = ids["pad_id"] or 0
        self.start_id: int | None = ids["start_id"]
        self.end_id: int | None = ids["end_id"]
        self.mask_id: int | None = self._first(_MASK)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read a tokenizer file, or the folder of a checkpoint in the common format.

        A folder has one of: tokenizer.json; vocab.txt (BERT, DistilBERT, ELECTRA); vocab.json with merges.txt
        (GPT-2, RoBERTa, BART, CLIP, Qwen2); a SentencePiece model: spiece.model (T5, ALBERT),
        sentencepiece.bpe.model (XLM-R), tokenizer.model (Llama); source.spm, target.spm and vocab.json (Marian).
        Its config.json, tokenizer_config.json, special_tokens_map.json and added_tokens.json are followed.
        Without them a vocab.txt without capital letters gives a lower-casing tokenizer.

        Raises:
            KzooError: if there is no such file, or it is damaged or of another kind.
        """
        return cls(load(Path(path)))

    @classmethod
    def from_json(cls, content: str) -> Tokenizer:
        """Read the contents of a tokenizer.json.

        Raises:
            KzooError: if the JSON is cut short or describes no tokenizer.
        """
        return cls(from_json(content))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Literal["wordpiece", "bpe", "unigram", "characters"] = "wordpiece",
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        marks: Literal["end", "both", "none"] = "end",
    ) -> Tokenizer:
        """Learn a vocabulary from texts; the same texts give the same vocabulary.

        Args:
            texts: the texts, read once; all kinds but `"bpe"` hold them in memory.
            kind: `"wordpiece"` lower-cases and wraps texts as BERT does (`[CLS] text [SEP]`, `[PAD]` is 0);
                `"bpe"` is byte-level, so any text comes back unchanged; `"unigram"` is SentencePiece's: it
                picks the most probable pieces, and writes runs of spaces as one; `"characters"` has a token for
                each character. These three end texts with `</s>` (`<pad>` is 0, `<s>` 1, `</s>` 2).
            vocab_size: most entries, special tokens included; small texts give fewer.
            special_tokens: further special tokens, placed after the kind's own.
            marks: what texts of these three kinds get: `</s>` behind them, `<s>` in front of them too, or nothing.

        Raises:
            KzooError: if `kind` is unknown, `vocab_size` too small, or there is no text to learn from.
        """
        backend = train(texts, kind=kind, vocab_size=vocab_size, special_tokens=special_tokens, marks=marks)
        return cls(Loaded(backend))

    def encode(
        self,
        texts: Sequence[Text],
        *,
        max_length: int,
        pad_to_multiple_of: int = 1,
        special_tokens: bool = True,
        keep: Literal["first", "last"] = "first",
        offsets: bool = False,
        target: bool = False,
    ) -> Encoding:
        """Turn texts into one padded batch of token ids.

        Args:
            texts: strings, or pairs of strings as 2-tuples.
            max_length: most tokens of a text, special tokens included; longer ones are cut and keep their
                special tokens. Pairs lose tokens from their longer text first.
            pad_to_multiple_of: round the batch's length up to a multiple, though never above
                `max_length`.
            special_tokens: add the tokenizer's own, such as `[CLS]` and `[SEP]`.
            keep: which end of a text survives the cut.
            offsets: say of each token which characters, text and word it comes from; slower.
            target: the texts are what a model is to write, not what it reads. Marian's tokenizers split these
                in another way; to all others it is the same.

        Raises:
            KzooError: if `texts` is empty or holds anything else than strings and pairs.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise KzooError(f"encode takes a list with at least one text; got {texts!r}.")
        items = [check_text(text, index) for index, text in enumerate(texts)]
        backend: Any = self._backend
        if self._sides is not None:
            backend = self._sides.target if target else self._sides.source
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        encodings = encode(items, add_special_tokens=special_tokens)
        sizes = np.array([len(encoding.ids) for encoding in encodings])
        truncated = sizes > max_length
        kept: list[Any] = [slice(None)] * len(items)
        for index in np.flatnonzero(truncated):
            if not offsets:  # the fast way does not say which tokens are special
                parts = parts_of(items[index])
                encodings[index] = backend.encode(*parts, add_special_tokens=special_tokens)
            kept[index] = _kept(encodings[index], max_length, keep)
            sizes[index] = len(kept[index])

        longest = max(1, sizes.max())
        length = max(longest, min(max_length, -(-longest // pad_to_multiple_of) * pad_to_multiple_of))
        input_ids = np.full((len(items), length), self.pad_id, np.int32)
        attention_mask = (np.arange(length) < sizes[:, None]).astype(np.int32)
        token_type_ids = np.zeros((len(items), length), np.int32)
        for row, encoding in enumerate(encodings):
            input_ids[row, : sizes[row]] = np.array(encoding.ids, np.int32)[kept[row]]
            token_type_ids[row, : sizes[row]] = np.array(encoding.type_ids, np.int32)[kept[row]]
        origins = _origins(encodings, kept, sizes, length) if offsets else ()
        return Encoding(input_ids, attention_mask, token_type_ids, truncated, *origins)

    def decode(self, ids: Sequence[int] | np.ndarray, skip_special_tokens: bool = True) -> str:
        """Turn token ids (length,) back into text."""
        return self.decode_batch([ids], skip_special_tokens)[0]

    def decode_batch(
        self, batch: Iterable[Sequence[int] | np.ndarray], skip_special_tokens: bool = True
    ) -> list[str]:
        """Turn rows of token ids back into texts.

        Raises:
            KzooError: if an id is negative or beyond any vocabulary.
        """
        rows = [[int(token) for token in ids] for ids in batch]
        if any(not 0 <= token < 2**32 for ids in rows for token in ids):
            raise KzooError("Token ids are from 0 to 2**32 - 1; got another. Was it a label to ignore?")
        return self._backend.decode_batch(rows, skip_special_tokens=skip_special_tokens)

    @property
    def special_ids(self) -> frozenset[int]:
        """What fills rows up, starts and ends texts, and hides tokens, where there are such."""
        ids = (self.pad_id, self.start_id, self.end_id, self.mask_id)
        return frozenset(index for index in ids if index is not None)

    @cached_property
    def vocab_size(self) -> int:
        """Number of entries, special tokens included; every id is below it."""
        return 1 + max(self.vocabulary.values())

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The ids by entry, special tokens included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """What the vocabulary has language codes for, such as `"fr"` for the token `>>fr<<`, in order."""
        found = (_LANGUAGE.fullmatch(token) for token in self.vocabulary)
        return tuple(sorted(match[1] for match in found if match))

    def token_id(self, token: str) -> int | None:
        """Return the id of an entry of the vocabulary, or None if it has no such entry."""
        return self._backend.token_to_id(token)

    def to_json(self) -> str:
        """Return the tokenizer as the contents of a tokenizer.json."""
        likely = self._likely_ids()
        ids = {name: getattr(self, name) for name, index in likely.items() if getattr(self, name) != index}
        return to_json(Loaded(self._backend, self._sides, **ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a tokenizer.json; a reader sees the old file or the new one, never half of one."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        temporary.write_text(self.to_json(), encoding="utf-8")
        temporary.replace(file)

    def companions(self) -> dict[str, bytes]:
        """Return the files, by name, that the original library needs beside tokenizer.json: Marian's, or none."""
        if self._sides is None:
            return {}
        vocabulary = sorted(self._backend.get_vocab().items(), key=lambda entry: entry[1])
        return {
            "source.spm": self._sides.source_file,
            "target.spm": self._sides.target_file,
            "vocab.json": json.dumps(dict(vocabulary), ensure_ascii=False, indent=2).encode("utf-8"),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        return f"<Tokenizer: {type(self._backend.model).__name__}, {self.vocab_size:,} tokens>"

    def _likely_ids(self) -> dict[str, int | None]:
        """Return the ids that the names of the tokens suggest."""
        pad = self._first(_PAD)
        start = self._first(_START)
        # Without a start token, decoders start with padding: T5's and Marian's way.
        return {"pad_id": pad or 0, "start_id": pad if start is None else start, "end_id": self._first(_END)}

    def _first(self, names: Iterable[str]) -> int | None:
        ids = map(self._backend.token_to_id, names)
        return next((index for index in ids if index is not None), None)


def _kept(encoding: tokenizers.Encoding, max_length: int, keep: str) -> np.ndarray:
    """Return which tokens of a text, or pair, that is too long stay: all special ones, and what has room."""
    sequence_ids = _or_minus_one(encoding.sequence_ids)
    parts = [np.flatnonzero(sequence_ids == part) for part in range(encoding.n_sequences)]
    special = np.flatnonzero(sequence_ids == -1)
    room = max_length - len(special)
    if room < len(parts):
        raise KzooError(
            f"max_length is {max_length}: too short for {len(parts)} token(s) of text "
            f"and the {len(special)} special tokens that this tokenizer adds."
        )
    shares = _shares([len(part) for part in parts], room)
    ends = [
        part[:n] if keep == "first" else part[len(part) - n :] for part, n in zip(parts, shares, strict=True)
    ]
    return np.sort(np.concatenate([special, *ends]))


def _origins(
    encodings: Sequence[tokenizers.Encoding], kept: Sequence[Any], sizes: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the offsets, sequence ids and word ids of a padded batch."""
    offsets = np.zeros((len(encodings), length, 2), np.int32)
    sequence_ids = np.full((len(encodings), length), -1, np.int32)
    word_ids = np.full((len(encodings), length), -1, np.int32)
    for row, (encoding, size) in enumerate(zip(encodings, sizes, strict=True)):
        sequence_ids[row, :size] = _or_minus_one(encoding.sequence_ids)[kept[row]]
        offsets[row, :size] = np.array(encoding.offsets, np.int32).reshape(-1, 2)[kept[row]]
        word_ids[row, :size] = _or_minus_one(encoding.word_ids)[kept[row]]
    special = sequence_ids == -1
    offsets[special], word_ids[special] = 0, -1
    return offsets, sequence_ids, word_ids


def _or_minus_one(values: Sequence[int | None]) -> np.ndarray:
    return np.array([-1 if value is None else value for value in values], np.int32)


def _shares(sizes: list[int], room: int) -> list[int]:
    """Split `room` tokens over one or two texts, taking from the longer one first."""
    if len(sizes) == 1:
        return [room]
    first = min(sizes[0], max(room - sizes[1], room - room // 2))
    return [first, room - first]
