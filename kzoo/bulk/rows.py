"""The texts of files, row by row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from kzoo.data import Column, Table, TableFormat, lines_of, table_format
from kzoo.errors import KzooError, did_you_mean
from kzoo.text import Text

_LINES = ".txt"
KINDS = ", ".join(f".{kind}" for kind in get_args(TableFormat)) + f" or {_LINES}"


@dataclass(frozen=True)
class Columns:
    """Where the texts of tables are. A file of lines has a text a line, and no columns.

    Attributes:
        text: the text's column, by its name, or by its number from 0 in a file without a header; `text`, or 0, unless
            given.
        text_pair: the second text's, for models that take pairs.
        header: whether the first row of a csv or tsv names the columns.
        delimiter: what the cells of a csv are separated by; a comma unless given.
    """

    text: str | None = None
    text_pair: str | None = None
    header: bool = True
    delimiter: str | None = None


def read_rows(path: Path, columns: Columns) -> Iterator[Text | None]:
    """Yield the text of each row, or the pair of texts; None where one is missing or blank.

    Raises:
        KzooError: naming file and place: the file is of another kind, is damaged or has no rows; a column is in none
            of its rows; a text holds what is no character.
    """
    name = path.name.removesuffix(".gz")
    rows: Iterator[tuple[str, Sequence[str | None]]]
    if name.lower().endswith(_LINES):
        if columns.text or columns.text_pair:
            raise KzooError(f"{path} has a text a line, and no columns: leave out --text and --text-pair.")
        rows = ((f"line {line}", [content]) for line, content in lines_of(path))
    elif table_format(path):
        rows = _table_rows(Table(path, delimiter=columns.delimiter), columns)
    else:
        raise KzooError(f"{path} is of a kind that cannot be read: its name must end in {KINDS}.")
    for place, parts in rows:
        texts = tuple(part for part in parts if part is not None and part.strip())
        for text in texts:
            _check_characters(path, place, text)
        if len(texts) < len(parts):
            yield None
        else:
            yield texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _table_rows(table: Table, columns: Columns) -> Iterator[tuple[str, Sequence[str | None]]]:
    named = columns.header or table.names_columns
    given = [columns.text or ("text" if named else "0")]
    given += [columns.text_pair] if columns.text_pair is not None else []
    wanted: list[Column] = [*given] if named else [_number(column) for column in given]
    rows = table.rows(named, given)
    first = next(rows)
    lacking = {*wanted}
    for place, cells in itertools.chain([first], rows):
        lacking -= cells.keys()
        yield place, [cells.get(column) for column in wanted]
    if lacking:
        column = lacking.pop()
        raise KzooError(
            f"{table.path}: no row has a column {column!r} with a value."
            f"{did_you_mean(str(column), map(str, first.cells))}{table.delimiter_hint(first.cells)}"
        )


def _number(column: str) -> int:
    if not column.isdecimal():
        raise KzooError(f"Without a header columns have numbers, from 0; '{column}' is none.")
    return int(column)


def _check_characters(path: Path, place: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise KzooError(f"{path}, {place} has half of a surrogate pair, which is no character.") from None
