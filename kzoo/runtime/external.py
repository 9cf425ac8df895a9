"""Which files an ONNX file has weights in besides itself; read without the onnx package."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import BundleError
from kzoo.runtime.protobuf import read_fields

# Messages of onnx.proto that tensors are in, by the numbers of their fields.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2


def weight_files(path: str | os.PathLike[str]) -> set[str]:
    """Return the files, as an ONNX file names them, that it has weights in besides itself.

    Raises:
        BundleError: it cannot be read, or is no ONNX file.

    Example:
        >>> weight_files("bundles/large/model.onnx")  # doctest: +SKIP
        {'model.onnx.data'}
    """
    file = Path(path)
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return set(_locations(content, 0, len(content), "model"))
    except OSError as error:
        raise BundleError(f"'{file}' cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise BundleError(f"'{file}' is no ONNX file, or is damaged.") from None


def _locations(content: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    for number, _, left, right in read_fields(content, start, end):
        inner = _INSIDE[message].get(number)
        if inner == "entry":
            entry = {part: content[first:last] for part, _, first, last in read_fields(content, left, right)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8")
        elif inner is not None:
            yield from _locations(content, left, right, inner)
