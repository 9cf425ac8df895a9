"""Tables whose rows get labels: read from a file of any common kind, and written as the same kind."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from kzoo.errors import KzooError, did_you_mean
from kzoo.text.formats import decode

_DELIMITERS = ",;\t|"
# What a spreadsheet takes a cell for a formula by. Quotes before it are none of its text in a file of tabs.
_FORMULA = re.compile('"*[=+@\t\r\uff1d\uff0b\uff20-]')
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?%?", re.IGNORECASE)
_END_OF_LINE = re.compile("\r\n|\n|\r")

Value = str | float | list[str] | list[float]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: where it begins in the file, from 1.
        cells: by column; None where there is none.
    """

    line: int
    cells: Sequence[str | None]


@dataclass(frozen=True)
class Table:
    """A file's rows.

    Attributes:
        name: the file's.
        columns: what its columns with texts are called.
        rows: its rows, without the one that names the columns.
        taken: names that a new column cannot have.
        write: takes new columns, and returns the file with them, and how many of its cells were changed so that
            no spreadsheet runs them.
        ending: what the written file's name ends in.
    """

    name: str
    columns: list[str]
    rows: list[Row]
    taken: Collection[str]
    write: Callable[[Mapping[str, Sequence[Value]]], tuple[bytes, int]]
    ending: str

    def texts(self, column: int) -> list[str]:
        """Return a column's cells, empty ones too.

        Raises:
            KzooError: naming the line, if a row has no such cell.
        """
        found = []
        for row in self.rows:
            cell = row.cells[column]
            if cell is None:
                raise KzooError(
                    f"{self.name}, line {row.line}: there is no text named '{self.columns[column]}'. "
                    "Mend the line, or pick another column."
                )
            found.append(cell)
        return found

    def new_name(self, name: str) -> str:
        """Return a name for a new column that no other has."""
        taken = {each.strip().lower() for each in self.taken}
        names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
        return next(each for each in names if each not in taken)


def read_table(name: str, content: bytes, *, named: bool = True) -> Table:
    """Read a file of rows.

    Cells of a `.csv` may be quoted, and parted by commas, semicolons, tabs or bars; those of a `.tsv` are parted by
    tabs, and quotes are part of them. A `.txt` has a text a line, or several if all lines have as many tabs, and
    becomes a `.csv`. A `.jsonl` has an object a line.

    Args:
        name: the file's, whose ending says what it is.
        content: the file, in UTF-8.
        named: whether the first row of a `.csv` or `.tsv` names the columns.

    Raises:
        KzooError: naming file and line: bytes that are not UTF-8, a row with more or fewer cells than the first, what
            is no CSV or no JSON; or the file is empty, or of another kind.

    Example:
        >>> table = read_table("a.csv", b"id,text\\n1,A dog.\\n")
        >>> table.texts(table.columns.index("text"))
        ['A dog.']
        >>> table.write({"label": ["animal"]})
        (b'id,text,label\\n1,A dog.,animal\\n', 0)
    """
    ending = PurePath(name).suffix.lower()
    if ending not in _READERS:
        raise KzooError(
            f"{name} is of a kind that cannot be read: its name must end in {KINDS}.{did_you_mean(ending, _READERS)}"
        )
    mark, text = decode(name, content)
    if not text.strip():
        raise KzooError(f"{name} is empty.")
    table = _READERS[ending](name, text, mark, named)
    if not table.rows:
        raise KzooError(f"{name} has no rows below the one that names the columns.")
    return table


def read_lines(text: str, parts: int = 1) -> Table:
    """Read pasted lines: a text each, or as many as `parts` with tabs between them.

    Raises:
        KzooError: naming the line: too few texts, or half of a character; or there are no lines.
    """
    name = "The text"
    if not text.strip():
        raise KzooError("There are no lines yet: paste some, or drop a file.")
    records = [(line, content.split("\t", parts - 1)) for line, content in _lines(text)]
    for line, cells in records:
        _check_characters(name, line, "".join(cells))
        if len(cells) < parts and "".join(cells).strip():
            raise KzooError(f"{name}, line {line}: this model reads {parts} texts, with a tab between them.")
    return _of_lines(name, [(line, (cells + [""] * parts)[:parts]) for line, cells in records], b"")


def table_of(column: str, cells: Sequence[str]) -> Table:
    """Return a table of one column, to be written as a `.csv`.

    Example:
        >>> table_of("image", ["a.png"]).write({"label": ["cat"]})
        (b'image,label\\na.png,cat\\n', 0)
    """
    rows = [Row(place + 1, [cell]) for place, cell in enumerate(cells)]
    return _of_rows(column, [column], rows, b"")


def _read_text(name: str, text: str, mark: bytes, named: bool) -> Table:
    lines = list(_lines(text))
    tabs = {content.count("\t") for _, content in lines if content.strip()}
    if len(tabs) > 1 or tabs == {0}:
        return _of_lines(name, [(line, [content]) for line, content in lines], mark)
    return _of_lines(name, [(line, content.split("\t")) for line, content in lines if content.strip()], mark)


def _of_lines(name: str, records: Sequence[tuple[int, list[str]]], mark: bytes) -> Table:
    width = len(records[0][1])
    columns = ["text"] if width == 1 else [f"text_{part + 1}" for part in range(width)]
    return _of_rows(name, columns, [Row(line, cells) for line, cells in records], mark)


def _of_rows(name: str, columns: list[str], rows: list[Row], mark: bytes) -> Table:
    def write(added: Mapping[str, Sequence[Value]]) -> tuple[bytes, int]:
        return _written(columns, rows, added, mark, _csv_writer(",", "\n"))

    return Table(name, columns, rows, columns, write, ".csv")


def _read_csv(name: str, text: str, mark: bytes, named: bool) -> Table:
    delimiter = max(_DELIMITERS, key=lambda each: len(next(_csv_records(name, text, each))[1]))
    return _delimited(
        name,
        list(_csv_records(name, text, delimiter)),
        mark,
        named,
        _csv_writer(delimiter, _end_of(text)),
        ".csv",
    )


def _read_tsv(name: str, text: str, mark: bytes, named: bool) -> Table:
    records = [(line, content.split("\t")) for line, content in _lines(text) if content.strip()]
    end = _end_of(text)

    def write(rows: Sequence[Sequence[str]]) -> str:
        return "".join("\t".join(_END_OF_LINE.sub(" ", cell) for cell in row) + end for row in rows)

    return _delimited(name, records, mark, named, write, ".tsv")


def _delimited(
    name: str,
    records: list[tuple[int, list[str]]],
    mark: bytes,
    named: bool,
    write_rows: Callable[[Sequence[Sequence[str]]], str],
    ending: str,
) -> Table:
    _check_widths(name, records)
    first = records[0][1]
    columns = [f"{place + 1}: {cell[:30]}" for place, cell in enumerate(first)]
    if named:
        columns = [cell.strip() or f"column {place + 1}" for place, cell in enumerate(first)]
    rows = [Row(line, cells) for line, cells in (records[1:] if named else records)]

    def write(added: Mapping[str, Sequence[Value]]) -> tuple[bytes, int]:
        return _written(first if named else None, rows, added, mark, write_rows)

    return Table(name, columns, rows, columns, write, ending)


def _read_json_lines(name: str, text: str, mark: bytes, named: bool) -> Table:
    lines = [(line, content.strip()) for line, content in _lines(text) if content.strip()]
    objects = [_object(name, line, content) for line, content in lines]
    columns = list(
        dict.fromkeys(key for found in objects for key, value in found.items() if isinstance(value, str))
    )
    if not columns:
        raise KzooError(f"{name}: none of its objects holds a text.")
    end = _end_of(text)

    def write(added: Mapping[str, Sequence[Value]]) -> tuple[bytes, int]:
        written = []
        for place, ((_, source), found) in enumerate(zip(lines, objects, strict=True)):
            more = json.dumps({key: values[place] for key, values in added.items()}, ensure_ascii=False)
            # Behind what is there, as it is there: read and written again, its numbers might be others.
            written.append(source[:-1].rstrip() + (", " if found else "") + more[1:])
        return mark + "".join(line + end for line in written).encode(), 0

    rows = [
        Row(line, [_text_of(found, key) for key in columns])
        for (line, _), found in zip(lines, objects, strict=True)
    ]
    return Table(name, columns, rows, {key for found in objects for key in found}, write, ".jsonl")


def _object(name: str, line: int, content: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
        said = json.dumps(found, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise KzooError(f"{name}, line {line} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise KzooError(f"{name}, line {line} is not a JSON object.")
    _check_characters(name, line, said)
    return found


def _text_of(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key, 0)
    return "" if value is None else value if isinstance(value, str) else None


def _check_characters(name: str, line: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise KzooError(f"{name}, line {line} has half of a surrogate pair, which is no character.") from None


_READERS: dict[str, Callable[[str, str, bytes, bool], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
}
KINDS = ", ".join(list(_READERS)[:-1]) + f" or {list(_READERS)[-1]}"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines: it cuts at characters that may stand inside a text, such as U+2028.
    yield from enumerate(_END_OF_LINE.split(_END_OF_LINE.sub("\n", text).removesuffix("\n")), start=1)


def _end_of(text: str) -> str:
    """Return what a file's lines end in."""
    found = _END_OF_LINE.search(text)
    return found[0] if found else "\n"


def _csv_records(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise KzooError(f"{name}, line {line}: not a row of a CSV file: {error}.") from None


def _csv_writer(delimiter: str, end: str) -> Callable[[Sequence[Sequence[str]]], str]:
    def write(rows: Sequence[Sequence[str]]) -> str:
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
        return file.getvalue()

    return write


def _check_widths(name: str, records: Sequence[tuple[int, Sequence[str]]]) -> None:
    line, first = records[0]
    ragged = [(place, cells) for place, cells in records if len(cells) != len(first)]
    if ragged:
        place, cells = ragged[0]
        others = f" {len(ragged) - 1:,} more lines differ from that, too." if len(ragged) > 1 else ""
        raise KzooError(
            f"{name}, line {place} has {_count(cells)}; line {line} has {len(first)}.{others} "
            "Mend the line, or check the kind of file."
        )


def _count(cells: Sequence[str]) -> str:
    return "1 cell" if len(cells) == 1 else f"{len(cells)} cells"


def _written(
    names: Sequence[str] | None,
    rows: Sequence[Row],
    added: Mapping[str, Sequence[Value]],
    mark: bytes,
    write_rows: Callable[[Sequence[Sequence[str]]], str],
) -> tuple[bytes, int]:
    """Return a file of cells with columns added, and how many cells would have been formulas."""
    changed = 0

    def safe(cell: str) -> str:
        nonlocal changed
        if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
            changed += 1
            return "'" + cell
        return cell

    head = [] if names is None else [[*names, *added]]
    body = [
        [*(cell or "" for cell in row.cells), *(shown(values[place]) for values in added.values())]
        for place, row in enumerate(rows)
    ]
    return mark + write_rows([[safe(cell) for cell in row] for row in head + body]).encode(), changed


def shown(value: Value, digits: int = 6) -> str:
    """Return a value as the text of one cell, numbers with so many digits."""
    if isinstance(value, list):
        return " | ".join(shown(each, digits) for each in value)
    return value if isinstance(value, str) else f"{value:.{digits}g}"
