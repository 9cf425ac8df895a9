"""SentencePiece's table of character replacements."""

from __future__ import annotations

import re

import numpy as np

from kzoo.errors import KzooError

# A unit's label is its low byte; its highest bit says that it is a value instead.
_IS_VALUE = 1 << 31
_LABEL = _IS_VALUE | 255
_NODES_AT_ONCE = 4096
_ASCII = re.compile("[ -~]+(?=[ -~])|[ -~]+$")
_PRINTABLE = np.arange(ord(" "), ord("~") + 1)


class Charsmap:
    """Which strings are replaced, and by what: a double-array trie over UTF-8.

    `tokenizers.normalizers.Precompiled` reads the same table, but replaces whole graphemes, and none of six bytes
    or more: it leaves decomposed Korean as it is, and loses some marks. It also trusts the table, and panics
    where that leads out of itself.

    Args:
        content: 32-bit units behind their size in bytes, then the replacements, each ended by a zero byte.

    Raises:
        KzooError: if the table is damaged.
    """

    def __init__(self, content: bytes):
        size = int.from_bytes(content[:4], "little")
        if size % 4 or not 0 < size <= len(content) - 4 or content[-1] != 0:
            raise _damaged()
        units = np.frombuffer(content, "<u4", size // 4, 4).astype(np.int64)
        self._targets = content[4 + size :]
        try:
            self._targets.decode("utf-8")
        except UnicodeDecodeError:
            raise _damaged() from None
        _check(units, np.frombuffer(self._targets, np.uint8))
        root = int(_steps(units[0]))
        first = units[_children(units, np.array([root]), _PRINTABLE)]
        second = _children(units, _children(units, np.array([root]), _PRINTABLE) ^ _steps(first), _PRINTABLE)
        self._ascii_stays = not len(second) and not np.any(first >> 8 & 1)
        self._root, self._units, self._next = root, units.tolist(), _steps(units).tolist()

    def normalize(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """Replace, from left to right, always the longest string that the table has.

        Returns:
            the new text, and for each of its characters the start and end of what it stands for in `text`.
        """
        parts: list[str] = []
        spans: list[tuple[int, int]] = []
        at = 0
        while at < len(text):
            plain = _ASCII.match(text, at) if self._ascii_stays else None
            if plain:
                part, end = plain.group(), plain.end()
                spans += [(place, place + 1) for place in range(at, end)]
            else:
                part, end = self._longest(text, at)
                spans += [(at, end)] * len(part)
            parts.append(part)
            at = end
        return "".join(parts), spans

    def _longest(self, text: str, at: int) -> tuple[str, int]:
        """Return what the longest string at a place becomes, and where it ends."""
        found, end, node = text[at], at + 1, self._root
        for place in range(at, len(text)):
            for byte in text[place].encode("utf-8"):
                node ^= byte
                unit = self._units[node]
                if byte == 0 or unit & _LABEL != byte:
                    return found, end
                node ^= self._next[node]
            if unit >> 8 & 1:
                start = self._units[node] & ~_IS_VALUE
                found = self._targets[start : self._targets.index(0, start)].decode("utf-8")
                end = place + 1
        return found, end


def _check(units: np.ndarray, targets: np.ndarray) -> None:
    """Refuse a trie that leads out of its units, or to what is no start of a character."""
    waiting = _steps(units[:1])
    seen = np.zeros(len(units), bool)
    while len(waiting):
        nodes, waiting = waiting[:_NODES_AT_ONCE], waiting[_NODES_AT_ONCE:]
        if nodes.max() | 255 >= len(units):
            raise _damaged()
        seen[nodes] = True
        places = _children(units, nodes, np.arange(1, 256))
        below = places ^ _steps(units[places])
        if below.max(initial=0) >= len(units):
            raise _damaged()
        starts = units[below[units[places] >> 8 & 1 == 1]] & ~_IS_VALUE
        if starts.max(initial=0) >= len(targets) or np.any(targets[starts] & 0xC0 == 0x80):
            raise _damaged()
        waiting = np.concatenate([waiting, np.unique(below[~seen[below]])])


def _children(units: np.ndarray, nodes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return where the nodes' children with one of the labels are: at the node's place xor the label."""
    places = nodes[:, None] ^ labels
    return places[units[places] & _LABEL == labels]


def _steps(units: np.ndarray) -> np.ndarray:
    """Return how far it is, by xor, from each unit's place to its node's."""
    return (units >> 10) << ((units & 1 << 9) >> 6)


def _damaged() -> KzooError:
    return KzooError("its table of character replacements is damaged. Fetch the file again.")
