"""SentencePiece's .model files: read without the library that wrote them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from tokenizers import AddedToken, normalizers

from kzoo.errors import KzooError
from kzoo.text.charsmap import Charsmap


class Kind(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """An entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True)
class SentencePieceModel:
    """What a .model file says.

    Attributes:
        pieces: the vocabulary, in the order of the ids.
        algorithm: `"unigram"` or `"bpe"`.
        unk_id: the id of unknown characters.
        byte_fallback: whether unknown characters are written as their bytes.
        charsmap: the table of character replacements, as stored; empty if there is none.
        add_dummy_prefix: whether a text gets a space in front.
        remove_extra_whitespaces: whether spaces at the ends go, and runs of spaces become one.
    """

    pieces: tuple[Piece, ...]
    algorithm: Literal["unigram", "bpe"]
    unk_id: int
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    @property
    def vocabulary(self) -> list[tuple[str, float]]:
        """Each piece's text and score."""
        return [(piece.text, piece.score) for piece in self.pieces]

    @property
    def added_tokens(self) -> list[AddedToken]:
        """The pieces that are found in a text before it is split, or stand for no text at all."""
        return [
            AddedToken(piece.text, normalized=False, special=piece.kind == Kind.CONTROL)
            for piece in self.pieces
            if piece.kind in (Kind.CONTROL, Kind.USER_DEFINED)
        ]

    def merges(self) -> list[tuple[str, str]]:
        """Return the pairs of pieces that join, the first to be joined first.

        The file has only the results, with scores: any two pieces that make up a third one join, the better
        the third one's score the earlier.
        """
        ids = {piece.text: index for index, piece in enumerate(self.pieces) if piece.kind == Kind.NORMAL}
        ranked = []
        for whole, index in ids.items():
            for cut in range(1, len(whole)):
                left, right = whole[:cut], whole[cut:]
                if left in ids and right in ids:
                    ranked.append((-self.pieces[index].score, len(left), ids[left], left, right))
        return [(left, right) for *_, left, right in sorted(ranked)]

    def replacing(self) -> list[normalizers.Normalizer]:
        """What replaces characters, in no step or one."""
        return [normalizers.Precompiled(self.charsmap)] if self.charsmap else []


def parse(content: bytes) -> SentencePieceModel:
    """Read the bytes of a .model file.

    Raises:
        KzooError: if they are damaged, or describe what kzoo does not compute.
    """
    model = _Message(content)
    trainer, normalizer = _Message(model.raw(2)), _Message(model.raw(3))
    algorithms: dict[int, Literal["unigram", "bpe"]] = {1: "unigram", 2: "bpe"}
    algorithm = algorithms.get(trainer.integer(3, 1))
    if algorithm is None:
        raise KzooError("it splits into words or characters; kzoo reads models of the kinds unigram and bpe.")
    if trainer.integer(24, 0):
        raise KzooError("it puts spaces behind words (treat_whitespace_as_suffix), which kzoo does not do.")
    if not normalizer.integer(5, 1):
        raise KzooError("it keeps spaces as they are (escape_whitespaces=false), which kzoo does not do.")
    if _Message(model.raw(5)).raw(2):
        raise KzooError("it replaces characters when decoding (denormalizer_spec), which kzoo does not do.")
    pieces = tuple(_piece(_Message(entry), index) for index, entry in enumerate(model.fields.get(1, [])))
    unknown = [index for index, piece in enumerate(pieces) if piece.kind == Kind.UNKNOWN]
    if len(unknown) != 1 or len({piece.text for piece in pieces}) != len(pieces):
        raise KzooError("it is damaged: it needs one unknown piece, and no piece twice.")
    if normalizer.raw(2):
        Charsmap(normalizer.raw(2))  # refuses a damaged one
    return SentencePieceModel(
        pieces=pieces,
        algorithm=algorithm,
        unk_id=unknown[0],
        byte_fallback=bool(trainer.integer(35, 0)),
        charsmap=normalizer.raw(2),
        add_dummy_prefix=bool(normalizer.integer(3, 1)),
        remove_extra_whitespaces=bool(normalizer.integer(4, 1)),
    )


def _piece(message: _Message, index: int) -> Piece:
    try:
        piece = Piece(message.raw(1).decode("utf-8"), message.real(2), Kind(message.integer(3, Kind.NORMAL)))
    except ValueError as error:
        raise KzooError(f"it is damaged: piece {index} cannot be read ({error}).") from None
    if not piece.text or not math.isfinite(piece.score):
        raise KzooError(f"it is damaged: piece {index} has no text, or a score that is no number.")
    if piece.kind == Kind.UNUSED:
        raise KzooError(f"it marks piece {index} as unused, which kzoo does not do.")
    return piece


def _damaged() -> KzooError:
    return KzooError("it is no SentencePiece model, or a damaged one. Fetch the file again.")


class _Message:
    """The fields of a protocol buffer message by number, each one's values in order."""

    def __init__(self, content: Any):
        if not isinstance(content, bytes):
            raise _damaged()
        self.fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(content):
            key, at = _varint(content, at)
            match key & 7:
                case 0:
                    value, at = _varint(content, at)
                    self.fields.setdefault(key >> 3, []).append(value)
                    continue
                case 1:
                    size = 8
                case 2:
                    size, at = _varint(content, at)
                case 5:
                    size = 4
                case _:
                    raise _damaged()
            if size > len(content) - at:
                raise _damaged()
            self.fields.setdefault(key >> 3, []).append(content[at : at + size])
            at += size

    def integer(self, number: int, default: int) -> int:
        value = self.fields.get(number, [default])[-1]
        if not isinstance(value, int):
            raise _damaged()
        return value

    def raw(self, number: int) -> bytes:
        value = self.fields.get(number, [b""])[-1]
        if not isinstance(value, bytes):
            raise _damaged()
        return value

    def real(self, number: int) -> float:
        value = self.fields.get(number, [bytes(4)])[-1]
        if not isinstance(value, bytes) or len(value) != 4:
            raise _damaged()
        return struct.unpack("<f", value)[0]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at == len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _damaged()
