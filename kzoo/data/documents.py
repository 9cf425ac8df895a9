"""Plain text to learn language from: files, and the documents in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kzoo.data.files import content_of
from kzoo.data.tables import Column, Table
from kzoo.errors import KzooError

# What stands between two documents of a file.
DocumentBreak = Literal["line", "blank_line"]
_BREAKS = {"line": re.compile(r"\n"), "blank_line": re.compile(r"\n(?:[^\S\n]*\n)+")}


def read_documents(files: Sequence[Path], breaks: DocumentBreak | None = None) -> list[str]:
    """Return the documents in files of plain text, `.gz` too, in order.

    Args:
        files: the files, in UTF-8.
        breaks: what stands between two documents; None where each file is one.

    Returns:
        The documents; those that are blank are left out.

    Raises:
        KzooError: a file is missing, empty, or not UTF-8.
    """
    found: list[str] = []
    for file in files:
        content = content_of(file).replace("\r\n", "\n")
        parts = [content] if breaks is None else _BREAKS[breaks].split(content)
        found += [part for part in parts if part.strip()]
    return found


def read_texts(file: Path, columns: Sequence[Column]) -> list[str]:
    """Return the texts of a table, a document each row, in order; those that are blank are left out.

    Args:
        file: a csv, tsv, jsonl or parquet file, as `Table` reads it.
        columns: the text's column, or several, which a blank joins.

    Raises:
        KzooError: the file is none of these or damaged, or has no such column, or no text in it.
    """
    texts = (" ".join(row.cells[column] for column in columns) for row in Table(file).rows_with(columns))
    found = [text for text in texts if text.strip()]
    if not found:
        raise KzooError(f"{file} has no text in {', '.join(map(repr, columns))}.")
    return found


def split_documents(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Set the last share of the documents aside, or of the characters, where there is one document.

    Raises:
        KzooError: a part would have nothing in it.

    Example:
        >>> split_documents(["To be, or not"], 0.5)
        (['To be,'], [' or not'])
    """
    single = len(documents) == 1
    whole: Sequence[str] = documents[0] if single else documents
    cut = int(len(whole) * (1 - share))
    parts = whole[:cut], whole[cut:]
    if not all("".join(part).strip() for part in parts):
        unit = "characters" if single else "documents"
        raise KzooError(f"Cannot set {share} of {len(whole)} {unit} aside: a part would be empty.")
    first, last = ([part] if isinstance(part, str) else list(part) for part in parts)
    return first, last
