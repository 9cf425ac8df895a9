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
from kzoo.text.sentencepiece import Kind, SentencePieceModel, parse
from kzoo.text.strings import Text, parts_of

END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"


@dataclass(frozen=True)
class Segments:
    """One text's tokens, by the names that `tokenizers.Encoding` has for them."""

    ids: list[int]
    type_ids: list[int]
    sequence_ids: list[int | None]
    word_ids: list[int | None]
    offsets: list[tuple[int, int]]
    n_sequences: int


class Segmenter:
    """Splits texts of one language, and gives their pieces the ids of the shared vocabulary.

    It has those methods of `tokenizers.Tokenizer` that encode. A piece that the vocabulary lacks is unknown;
    characters that the SentencePiece model does not know, but the vocabulary does, are known.
    """

    def __init__(self, model: SentencePieceModel, vocabulary: Mapping[str, int]):
        # Control pieces stand for no text. Behind Metaspace no text has a space, so it matches none of these.
        pieces = [
            (f" {piece.text}" if piece.kind in (Kind.CONTROL, Kind.UNKNOWN) else piece.text, piece.score)
            for piece in model.pieces
        ]
        backend = tokenizers.Tokenizer(
            models.Unigram(pieces, unk_id=model.unk_id, byte_fallback=model.byte_fallback)
        )
        backend.normalizer = model.spaces_normalizer()
        backend.pre_tokenizer = model.pre_tokenizer()
        backend.add_special_tokens([END])
        backend.encode_special_tokens = True
        backend.post_processor = _ending(len(pieces))
        plain = [piece.text for piece in model.pieces if piece.kind == Kind.USER_DEFINED]
        backend.add_tokens([AddedToken(text, normalized=False) for text in (*plain, *_languages(vocabulary))])
        self._backend = backend
        self._charsmap = Charsmap(model.charsmap) if model.charsmap else None
        self._unknown = model.unk_id
        self._vocabulary = vocabulary
        self._ids = {
            index: vocabulary.get(text, vocabulary[UNKNOWN]) for text, index in backend.get_vocab().items()
        }

    def encode_batch(self, texts: Sequence[Text], add_special_tokens: bool = True) -> list[Segments]:
        """Split texts and pairs of texts."""
        normalized = [[self._normalize(part) for part in parts_of(text)] for text in texts]
        items = [tuple(new for new, _ in parts) if len(parts) > 1 else parts[0][0] for parts in normalized]
        encodings = self._backend.encode_batch(items, add_special_tokens=add_special_tokens)
        return [
            self._segments(encoding, [spans for _, spans in parts])
            for encoding, parts in zip(encodings, normalized, strict=True)
        ]

    encode_batch_fast = encode_batch

    def encode(self, text: str, pair: str | None = None, add_special_tokens: bool = True) -> Segments:
        """Split one text, or a pair of texts."""
        return self.encode_batch([text if pair is None else (text, pair)], add_special_tokens)[0]

    def _normalize(self, text: str) -> tuple[str, list[tuple[int, int]] | None]:
        return self._charsmap.normalize(text) if self._charsmap else (text, None)

    def _segments(
        self, encoding: tokenizers.Encoding, spans: Sequence[list[tuple[int, int]] | None]
    ) -> Segments:
        ids = [
            self._vocabulary.get(token, self._ids[index]) if index == self._unknown else self._ids[index]
            for token, index in zip(encoding.tokens, encoding.ids, strict=True)
        ]
        offsets = [
            _origin(place, spans[sequence or 0])
            for place, sequence in zip(encoding.offsets, encoding.sequence_ids, strict=True)
        ]
        return Segments(
            ids, encoding.type_ids, encoding.sequence_ids, encoding.word_ids, offsets, encoding.n_sequences
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
    backend = tokenizers.Tokenizer(
        models.Unigram([(text, scores.get(text, unlikely)) for text in ordered], unk_id=vocabulary[UNKNOWN])
    )
    backend.normalizer = model.normalizer()
    backend.pre_tokenizer = model.pre_tokenizer()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Replace(Regex(r"^\s+|\s+$"), "")]
    )
    backend.post_processor = _ending(vocabulary[END])
    backend.add_special_tokens([END, UNKNOWN, PAD])
    backend.add_tokens([AddedToken(code, normalized=False) for code in _languages(vocabulary)])
    return backend


def _ending(end_id: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A $B:1 {END}:1", special_tokens=[(END, end_id)]
    )


def _languages(vocabulary: Mapping[str, int]) -> list[str]:
    """Return the codes that say, in front of a text, which language to translate it to."""
    return [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]


def _origin(place: tuple[int, int], spans: list[tuple[int, int]] | None) -> tuple[int, int]:
    """Return where characters of a normalized text come from."""
    start, end = place
    if spans is None or start == end:
        return place
    return spans[start][0], spans[end - 1][1]
