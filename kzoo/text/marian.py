"""Marian's way: two SentencePiece models, one for each language, over one vocabulary."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, processors

from kzoo.errors import KzooError
from kzoo.text.charsmap import Charsmap
from kzoo.text.pipelines import unigram
from kzoo.text.sentencepiece import Kind, SentencePieceModel, parse
from kzoo.text.strings import Text, parts_of

END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"
SPACE = "\u2581"  # SentencePiece's mark


@dataclass(frozen=True)
class Segments:
    """One text's tokens, by the names that `tokenizers.Encoding` has for them."""

    ids: list[int]
    type_ids: list[int]
    sequence_ids: Sequence[int | None]
    word_ids: Sequence[int | None]
    offsets: list[tuple[int, int]]
    n_sequences: int


class Segmenter:
    """Splits texts of one language, and gives their pieces the ids of the shared vocabulary.

    It has those methods of `tokenizers.Tokenizer` that encode. A piece that the vocabulary lacks is unknown;
    characters that the SentencePiece model does not know, but the vocabulary does, are known. A code such as
    `>>fr<<` in front of a text is one token. The offsets of all tokens are those of the text as it was given.
    """

    def __init__(self, model: SentencePieceModel, vocabulary: Mapping[str, int]):
        # Control pieces stand for no text. A text that is split has no spaces, so it matches none of these.
        pieces = [
            (f" {piece.text}" if piece.kind in (Kind.CONTROL, Kind.UNKNOWN) else piece.text, piece.score)
            for piece in model.pieces
        ]
        backend = tokenizers.Tokenizer(
            models.Unigram(pieces, unk_id=model.unk_id, byte_fallback=model.byte_fallback)
        )
        backend.add_special_tokens([END])
        backend.encode_special_tokens = True
        backend.post_processor = _ending(len(pieces))
        backend.add_tokens([token for token in model.added_tokens if not token.special])
        self._backend = backend
        self._model = model
        self._charsmap = Charsmap(model.charsmap) if model.charsmap else None
        self._unknown = vocabulary[UNKNOWN]
        self._words = {text: index for text, index in vocabulary.items() if text not in (END, UNKNOWN, PAD)}
        self._ids = {
            index: vocabulary.get(text, self._unknown) for text, index in backend.get_vocab().items()
        }

    def encode_batch(self, texts: Sequence[Text], add_special_tokens: bool = True) -> list[Segments]:
        """Split texts and pairs of texts."""
        prepared = [[self._prepare(part) for part in parts_of(text)] for text in texts]
        items = [tuple(new for _, new, _ in parts) for parts in prepared]
        encodings = self._backend.encode_batch(
            [item if len(item) == 2 else item[0] for item in items], add_special_tokens=add_special_tokens
        )
        return [
            self._segments(encoding, [spans for _, _, spans in parts], parts[0][0])
            for encoding, parts in zip(encodings, prepared, strict=True)
        ]

    encode_batch_fast = encode_batch

    def encode(self, text: str, pair: str | None = None, add_special_tokens: bool = True) -> Segments:
        """Split one text, or a pair of texts."""
        return self.encode_batch([text if pair is None else (text, pair)], add_special_tokens)[0]

    def _prepare(self, text: str) -> tuple[str, str, list[tuple[int, int]]]:
        """Return a text's language code, what is split, and where each character of that comes from."""
        code = text[: text.find("<<") + 2] if text.startswith(">>") and "<<" in text else ""
        rest = text[len(code) :]
        if self._charsmap is None:
            new, spans = rest, [(place, place + 1) for place in range(len(rest))]
        else:
            new, spans = self._charsmap.normalize(rest)
        kept: Sequence[int] = range(len(new))
        if self._model.remove_extra_whitespaces:
            first, last = len(new) - len(new.lstrip(" ")), len(new.rstrip(" \u2581"))
            kept = [place for place in range(first, last) if new[place - 1 : place + 1] != "  "]
        characters = [SPACE if new[place] == " " else new[place] for place in kept]
        spans = [spans[place] for place in kept]
        if self._model.add_dummy_prefix and characters:
            characters.insert(0, SPACE)
            spans.insert(0, (spans[0][0], spans[0][0]))
        return code, "".join(characters), [(len(code) + start, len(code) + end) for start, end in spans]

    def _segments(
        self, encoding: tokenizers.Encoding, spans: Sequence[list[tuple[int, int]]], code: str
    ) -> Segments:
        words, unknown = self._words, self._unknown
        ids = [
            words.get(token, unknown) if index == self._model.unk_id else self._ids[index]
            for token, index in zip(encoding.tokens, encoding.ids, strict=True)
        ]
        origins = zip(encoding.offsets, encoding.sequence_ids, strict=True)
        offsets = [_origin(place, spans[sequence or 0]) for place, sequence in origins]
        in_front = [code] if code else []
        return Segments(
            ids=[words.get(token, unknown) for token in in_front] + ids,
            type_ids=[0 for _ in in_front] + encoding.type_ids,
            sequence_ids=[*(0 for _ in in_front), *encoding.sequence_ids],
            word_ids=[*(0 for _ in in_front), *encoding.word_ids],
            offsets=[(0, len(token)) for token in in_front] + offsets,
            n_sequences=encoding.n_sequences,
        )


@dataclass(frozen=True)
class Sides:
    """The two languages' files, and what splits their texts."""

    source_file: bytes
    target_file: bytes
    source: Segmenter
    target: Segmenter

    @classmethod
    def read(cls, source_file: bytes, target_file: bytes, vocabulary: Mapping[str, int]) -> Sides:
        """Read source.spm and target.spm.

        Raises:
            KzooError: if one is damaged, or of another kind.
        """
        sides = []
        for name, content in (("source.spm", source_file), ("target.spm", target_file)):
            try:
                model = parse(content)
            except KzooError as error:
                raise KzooError(f"{name} cannot be used: {error}") from None
            if model.algorithm != "unigram":
                raise KzooError(f"{name} is of the kind {model.algorithm}; Marian's are of the kind unigram.")
            sides.append(Segmenter(model, vocabulary))
        return cls(source_file, target_file, *sides)

    @classmethod
    def from_json(cls, content: Any, vocabulary: Mapping[str, int]) -> Sides:
        """Read what `to_json` gave."""
        return cls.read(
            base64.b64decode(content["source.spm"]), base64.b64decode(content["target.spm"]), vocabulary
        )

    def to_json(self) -> dict[str, str]:
        """Return both files, for a tokenizer.json."""
        return {
            "source.spm": base64.b64encode(self.source_file).decode("ascii"),
            "target.spm": base64.b64encode(self.target_file).decode("ascii"),
        }


def shared_backend(model: SentencePieceModel, vocabulary: Mapping[str, int]) -> tokenizers.Tokenizer:
    """Make the tokenizer that decodes both languages, and that other programs read from a tokenizer.json.

    It splits texts of the source language as their segmenter does, but for rare characters.

    Raises:
        KzooError: if the vocabulary lacks a token that Marian needs, or has gaps.
    """
    missing = {END, UNKNOWN, PAD} - vocabulary.keys()
    if missing:
        raise KzooError(f"vocab.json is no Marian vocabulary: it lacks {', '.join(sorted(missing))}.")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise KzooError(
            f"vocab.json has {len(vocabulary)} entries, but not the ids 0 to {len(vocabulary) - 1}."
        )
    scores = dict(model.vocabulary)
    unlikely = min(scores.values()) - 1000.0
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    pieces = [(text, scores.get(text, unlikely)) for text in ordered]
    backend = unigram(pieces, vocabulary[UNKNOWN], replace=model.replacing())
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Replace(Regex(r"^\s+|\s+$"), "")]
    )
    backend.post_processor = _ending(vocabulary[END])
    backend.add_special_tokens([END, UNKNOWN, PAD])
    codes = [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]
    backend.add_tokens([AddedToken(code, normalized=False) for code in codes])
    return backend


def _ending(end_id: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A $B:1 {END}:1", special_tokens=[(END, end_id)]
    )


def _origin(place: tuple[int, int], spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return where the characters of a prepared text come from."""
    start, end = place
    return (spans[start][0], spans[end - 1][1]) if end > start else (0, 0)
