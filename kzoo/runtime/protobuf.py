"""The wire format of protobuf, as far as it takes to find one's way in an ONNX file of any size."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


def read_fields(data: mmap.mmap, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a serialised message: number, start, start of the payload, end.

    Args:
        data: what the message is in.
        place: where it starts.
        end: where it ends.

    Raises:
        ValueError: this is no message.
    """
    while place < end:
        start = place
        key, payload = read_number(data, start)
        kind = key & 7
        if kind == _VARINT:
            _, place = read_number(data, payload)
        elif kind == _BYTES:
            length, payload = read_number(data, payload)
            place = payload + length
        elif kind in _WIDTHS:
            place = payload + _WIDTHS[kind]
        else:
            raise ValueError(f"At byte {start} is no field of a message.")
        if place > end:
            raise ValueError(f"The field at byte {start} is longer than its message.")
        yield key >> 3, start, payload, place


def read_number(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends.

    Raises:
        ValueError: it does not end.
    """
    value = 0
    for shift, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise ValueError(f"The number at byte {place} does not end.")
