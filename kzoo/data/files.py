"""Files of text, plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import KzooError


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Return what a file says, plain or with `.gz`, without a byte order mark.

    Args:
        path: the file.
        encoding: what its characters are written in, by Python's name.

    Raises:
        KzooError: naming the file, and the line where bytes are not of this encoding.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise KzooError(f"{file} is no gzip file, or is cut short ({error}). Fetch it again.") from None
    except OSError as error:
        raise KzooError(f"{file} cannot be read: {error.strerror or error}.") from None
    try:
        content = data.decode(encoding)
    except LookupError:
        raise KzooError(
            f"{file}: Python knows no encoding '{encoding}'; utf-8 and cp1252 are some."
        ) from None
    except UnicodeError as error:
        raise KzooError(_not_of(encoding, error, file, data)) from None
    return content.removeprefix("\ufeff")


def _not_of(encoding: str, error: UnicodeError, file: Path, data: bytes) -> str:
    """Return what is wrong with bytes that are not of an encoding, and of which they may be."""
    if not isinstance(error, UnicodeDecodeError):
        return f"{file} is not {encoding.upper()}: {error}."
    line = 1 + data.count(b"\n", 0, error.start)
    likely = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
    return (
        f"{file}, line {line}: byte {data[error.start]:#04x} is not {encoding.upper()}. Save the file as UTF-8; or, "
        f'where a recipe reads a table, say what it is: data.encoding = "{likely}" perhaps.'
    )


def content_of(file: Path, encoding: str = "utf-8") -> str:
    """Return what a file says, as `read_text` does.

    Raises:
        KzooError: as by `read_text`, and if there is nothing but blanks.
    """
    content = read_text(file, encoding)
    if not content.strip():
        raise KzooError(f"{file} is empty.")
    return content


def lines_of(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield a file's lines with their numbers, from 1."""
    # Not splitlines: it cuts at characters that may stand inside a text, such as U+2028.
    lines = content_of(file, encoding).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r")
