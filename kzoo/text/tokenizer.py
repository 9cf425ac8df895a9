"""One tokenizer class for all models, over the `tokenizers` library."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from kzoo.errors import KzooError, did_you_mean

Text = str | tuple[str, str]

# The names that published tokenizers give to the same roles, most specific first.
_PAD = ("[PAD]", "<pad>", "<|endoftext|>")
_START = ("[CLS]", "<s>", "<|endoftext|>")
_END = ("[SEP]", "</s>", "<|endoftext|>")
_MASK = ("[MASK]", "<mask>")

# Their place in the tuple is their id in a trained vocabulary.
_SPECIAL = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "bpe": ("<pad>", "<s>", "</s>", "<unk>"),
}


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
    are plain text (`"</s>"` is four characters, not the end), unless the vocabulary has a mask token:
    then they are read as special, so that `"The [MASK] barks."` means what it says.

    Example:
        >>> tokenizer = Tokenizer.train(["a dog runs", "a cat sleeps"], kind="bpe", vocab_size=300)
        >>> encoding = tokenizer.encode(["a dog", "a cat sleeps"], max_length=16)
        >>> tokenizer.decode(encoding.input_ids[1])
        'a cat sleeps'
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        # Truncation and padding belong to the call; settings saved in a file would be applied twice.
        saved_padding = backend.padding
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        backend.encode_special_tokens = self._first(_MASK) is None
        pad = saved_padding["pad_id"] if saved_padding else self._first(_PAD)
        self.pad_id: int = pad if pad is not None else 0
        self.start_id: int | None = self._first(_START)
        self.end_id: int | None = self._first(_END)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read a tokenizer.json, a BERT vocab.txt, or a folder that holds either.

        A vocab.txt without capital letters gives a lower-casing tokenizer.

        Raises:
            KzooError: if there is no such file, or it is damaged or of another kind.
        """
        file = Path(path)
        if file.is_dir():
            candidates = [file / "tokenizer.json", file / "vocab.txt"]
            found = [candidate for candidate in candidates if candidate.is_file()]
            if not found:
                raise KzooError(f"{file} has no tokenizer.json and no vocab.txt; put one of them there.")
            file = found[0]
        try:
            content = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KzooError(f"There is no tokenizer file {file}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise KzooError(f"{file} cannot be read as a tokenizer: {error}.") from None
        if file.suffix == ".txt":
            vocabulary = _read_vocabulary(file, content)
            words = [token for token in vocabulary if not token.startswith("[")]
            return cls(_wordpiece(vocabulary, lowercase=all(word == word.lower() for word in words)))
        try:
            return cls.from_json(content)
        except KzooError as error:
            raise KzooError(f"{file}: {error}") from None

    @classmethod
    def from_json(cls, content: str) -> Tokenizer:
        """Read the contents of a tokenizer.json.

        Raises:
            KzooError: if the JSON is cut short or describes no tokenizer.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(content))
        except Exception as error:  # the library raises bare Exception
            raise KzooError(
                f"This is no tokenizer.json, or one that is cut short ({error}). Fetch the file again."
            ) from None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Literal["wordpiece", "bpe"] = "wordpiece",
        vocab_size: int,
        special_tokens: Sequence[str] = (),
    ) -> Tokenizer:
        """Learn a vocabulary from texts; the same texts give the same vocabulary.

        Args:
            texts: the texts, read once; `"wordpiece"` holds them in memory.
            kind: `"wordpiece"` lower-cases and wraps texts as BERT does (`[CLS] text [SEP]`, `[PAD]` is 0);
                `"bpe"` is byte-level, so any text comes back unchanged, and ends texts with `</s>`
                (`<pad>` is 0, `<s>` 1, `</s>` 2).
            vocab_size: most entries, special tokens included; small texts give fewer.
            special_tokens: further special tokens, placed after the kind's own.

        Raises:
            KzooError: if `kind` is unknown, `vocab_size` too small, or there is no text to learn from.
        """
        if kind not in _SPECIAL:
            raise KzooError(f"Unknown kind of tokenizer '{kind}'.{did_you_mean(kind, _SPECIAL)}")
        special = [*_SPECIAL[kind], *special_tokens]
        # A letter takes two wordpiece entries, at the start of a word and inside one; a byte takes one.
        smallest = len(special) + (2 if kind == "wordpiece" else 256)
        if vocab_size < smallest:
            raise KzooError(f"vocab_size is {vocab_size}; a {kind} vocabulary needs at least {smallest}.")
        train = _train_wordpiece if kind == "wordpiece" else _train_bpe
        return cls(train(_checked(texts), vocab_size, special))

    def encode(
        self,
        texts: Sequence[Text],
        *,
        max_length: int,
        pad_to_multiple_of: int = 1,
        special_tokens: bool = True,
        keep: Literal["first", "last"] = "first",
        offsets: bool = False,
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

        Raises:
            KzooError: if `texts` is empty or holds anything else than strings and pairs.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise KzooError(f"encode takes a list with at least one text; got {texts!r}.")
        items = [check_text(text, index) for index, text in enumerate(texts)]
        encode = self._backend.encode_batch if offsets else self._backend.encode_batch_fast
        encodings = encode(items, add_special_tokens=special_tokens)
        sizes = np.array([len(encoding.ids) for encoding in encodings])
        truncated = sizes > max_length
        kept: list[Any] = [slice(None)] * len(items)
        for index in np.flatnonzero(truncated):
            if not offsets:  # the fast way does not say which tokens are special
                parts = _parts(items[index])
                encodings[index] = self._backend.encode(*parts, add_special_tokens=special_tokens)
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

    @cached_property
    def vocab_size(self) -> int:
        """Number of entries, special tokens included; every id is below it."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    def token_id(self, token: str) -> int | None:
        """Return the id of an entry of the vocabulary, or None if it has no such entry."""
        return self._backend.token_to_id(token)

    def to_json(self) -> str:
        """Return the tokenizer as the contents of a tokenizer.json."""
        return self._backend.to_str(pretty=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a tokenizer.json; a reader sees the old file or the new one, never half of one."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        temporary.write_text(self.to_json(), encoding="utf-8")
        temporary.replace(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        return f"<Tokenizer: {type(self._backend.model).__name__}, {self.vocab_size:,} tokens>"

    def _first(self, names: Iterable[str]) -> int | None:
        ids = map(self._backend.token_to_id, names)
        return next((index for index in ids if index is not None), None)


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def check_text(text: Any, index: int) -> Text:
    """Return `text` if it is a string or a pair of strings; the error calls it by its index.

    Raises:
        KzooError: if it is something else, or holds what is no character.
    """
    parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    for part in parts:
        if not isinstance(part, str):
            raise KzooError(
                f"Text {index} is of type {type(part).__name__}; expected a string or a pair of strings."
            )
        if not part.isascii():
            try:
                part.encode("utf-8")
            except UnicodeEncodeError:
                raise KzooError(
                    f"Text {index} holds half of a surrogate pair, which is no character; "
                    "decode its bytes with errors='replace'."
                ) from None
    return text


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on to the trainer, and refuse what would give a vocabulary of nothing."""
    if isinstance(texts, str):
        raise KzooError("train takes many texts; got one string. Put it into a list.")
    empty = True
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise KzooError(
                f"Text {index} is of type {type(text).__name__}; a tokenizer is trained on strings."
            )
        check_text(text, index)
        empty = empty and not text.strip()
        yield text
    if empty:
        raise KzooError("There is no text to train a tokenizer on.")


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


def _train_wordpiece(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    texts = list(texts)
    backend = _wordpiece({token: index for index, token in enumerate(special)}, lowercase=True)
    alphabet, inside = _alphabet(backend, texts, (vocab_size - len(special)) // 2)
    # The trainer gives letters inside words their ids in the order of a randomly seeded hash table, and
    # breaks ties between merges by id. Fixing these ids first, as special tokens, makes it repeatable.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"##{letter}" for letter in inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    trained = _wordpiece(backend.get_vocab(), lowercase=True)
    trained.add_special_tokens(special)
    return trained


def _alphabet(backend: tokenizers.Tokenizer, texts: list[str], limit: int) -> tuple[list[str], list[str]]:
    """Return the most frequent letters, and those of them that occur inside words, each in order."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    inside = set()
    for letter, count in raw.items():
        # Behind another letter, punctuation and ideographs make a word of their own and others stay in it.
        words = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str("a" + letter))
        joined = words[0][0][1:]
        inside.update(joined)
        for part in (joined, *(word for word, _ in words[1:])):
            counts.update(dict.fromkeys(part, count))
    kept = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:limit]
    return sorted(kept), sorted(inside.intersection(kept))


def _train_bpe(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    backend = _byte_level_bpe()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _wordpiece(vocabulary: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    """Make BERT's tokenizer over a vocabulary that has its special tokens."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    backend.add_special_tokens([token for token in _SPECIAL["wordpiece"] if token in vocabulary])
    return backend


def _read_vocabulary(file: Path, content: str) -> dict[str, int]:
    """Read a vocab.txt: an entry a line, its id the line's number from 0."""
    vocabulary = {token: index for index, token in enumerate(content.removesuffix("\n").split("\n"))}
    missing = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - vocabulary.keys()
    if missing:
        raise KzooError(f"{file} is no BERT vocabulary: it lacks {', '.join(sorted(missing))}.")
    return vocabulary


def _byte_level_bpe() -> tokenizers.Tokenizer:
    """Make an untrained byte-level tokenizer that ends texts with `</s>`."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>",
        pair="$A </s> $B:1 </s>:1",
        special_tokens=[("</s>", _SPECIAL["bpe"].index("</s>"))],
    )
    return backend
