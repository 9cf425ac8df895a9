"""Tables: the rows of csv, tsv, jsonl and parquet files, each with the place where it stands."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from kzoo.data.files import content_of, lines_of
from kzoo.errors import KzooError, MissingDependencyError, did_you_mean

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]
# A column's name in the header, or its number, from 0, in a file without one.
Column: TypeAlias = str | int


class Row(NamedTuple):
    """A row: where it stands, such as `"line 3"`, and its cells by the column's name or number."""

    place: str
    cells: Mapping[Column, str]


@dataclass(frozen=True)
class Table:
    """A file of rows.

    Attributes:
        path: the file; its name ends in `.csv`, `.tsv`, `.jsonl` or `.parquet`, the first three perhaps with `.gz`.
        format: the kind of table, where the name does not tell.
        encoding: what the characters are written in; a parquet file knows by itself.
        quoting: whether cells may be in quotes; those of a `.csv` may, those of a `.tsv` may not, unless given.
        delimiter: the character between the cells of a `.csv`; a comma unless given.
    """

    path: Path
    format: TableFormat | None = None
    encoding: str = "utf-8"
    quoting: bool | None = None
    delimiter: str | None = None

    @property
    def kind(self) -> TableFormat:
        """The kind of table.

        Raises:
            KzooError: neither `format` nor the name tells.
        """
        kind = self.format or table_format(self.path)
        if kind is None:
            *others, last = get_args(TableFormat)
            raise KzooError(
                f"{self.path}: its name does not tell what kind of table it is. Say which: {', '.join(others)} or "
                f"{last}."
            )
        return kind

    @property
    def names_columns(self) -> bool:
        """Whether columns have names in any case, rather than where there is a header."""
        return self.kind in ("jsonl", "parquet")

    def rows(self, has_header: bool, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield the rows, with names for columns if the file has them, else with numbers.

        Args:
            has_header: whether columns have names.
            columns: those that are read of a parquet file, if not all.

        Raises:
            KzooError: naming the place: a row with more or fewer cells than the first, damage, no row at all.
        """
        if self.names_columns and not has_header:
            raise KzooError(f"{self.path}: the columns of a .{self.kind} file have names, not numbers.")
        row = None
        if self.kind == "jsonl":
            rows = self._jsonl_rows()
        else:
            rows = self._parquet_rows(columns) if self.kind == "parquet" else self._named(has_header)
        for row in rows:
            yield row
        if row is None:
            raise KzooError(f"{self.path} has no rows.")

    def rows_with(self, columns: Sequence[Column]) -> Iterator[Row]:
        """Yield the rows, each of which has these columns.

        Raises:
            KzooError: as by `rows`, and for a column that is not there.
        """
        if len({type(column) for column in columns}) != 1:
            raise KzooError(f"The columns {[*columns]} mix names and numbers: use one or the other.")
        for row in self.rows(isinstance(columns[0], str)):
            for column in columns:
                if column not in row.cells:
                    null = " that has a value" if self.names_columns else ""
                    raise KzooError(
                        f"{self.path}, {row.place}: there is no {_missing(column, row.cells, null)}"
                        f"{self.delimiter_hint(row.cells)}"
                    )
            yield row

    def delimiter_hint(self, cells: Mapping[Column, str]) -> str:
        """Return a sentence for an error if the one cell of a csv's row looks like several, else nothing."""
        if self.kind != "csv" or len(cells) != 1:
            return ""
        content = "".join(f"{name}{cell}" for name, cell in cells.items())
        found = next((mark for mark in ";\t|" if mark in content), None)
        return (
            f" Are its cells separated by {found!r}? Then say it: delimiter = {json.dumps(found)}."
            if found
            else ""
        )

    def _named(self, has_header: bool) -> Iterator[Row]:
        names: list[Column] | None = None
        for line, cells in self._records():
            if names is None:
                names = list(cells) if has_header else list(range(len(cells)))
                if len(set(names)) != len(names):
                    raise KzooError(
                        f"{self.path}, line {line}: the header has a name twice: {', '.join(cells)}."
                    )
                if has_header:
                    continue
            if len(cells) != len(names):
                raise KzooError(
                    f"{self.path}, line {line} has {len(cells)} cells; the first line has {len(names)}. "
                    "Mend the line, or check the kind of table."
                    f"{self.delimiter_hint(dict.fromkeys(names, ''))}"
                )
            yield Row(f"line {line}", dict(zip(names, cells, strict=True)))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each line's number and cells, the header's too."""
        delimiter, quoting = (
            ("\t", bool(self.quoting))
            if self.kind == "tsv"
            else (self.delimiter or ",", self.quoting is not False)
        )
        if not quoting:
            for line, content in lines_of(self.path, self.encoding):
                if content.strip():
                    yield line, content.split(delimiter)
            return
        content = content_of(self.path, self.encoding)
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            name = self.kind.upper()
            raise KzooError(f"{self.path}, line {line}: not a row of a {name} file: {error}.") from None

    def _jsonl_rows(self) -> Iterator[Row]:
        for line, content in lines_of(self.path, self.encoding):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise KzooError(f"{self.path}, line {line} is not JSON: {error}.") from None
            if not isinstance(row, dict):
                raise KzooError(f"{self.path}, line {line} is not a JSON object.")
            yield Row(f"line {line}", _as_cells(row))

    def _parquet_rows(self, columns: Sequence[str] | None) -> Iterator[Row]:
        for number, row in enumerate(parquet_rows(self.path, columns), start=1):
            yield Row(f"row {number}", _as_cells(row))


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield a parquet file's rows, of all columns or of those that are named.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        KzooError: the file is none, or damaged, or has no such column.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("Reading parquet needs pyarrow: pip install 'kzoo[parquet]'.") from None
    try:
        with parquet.ParquetFile(path) as file:
            for column in columns or ():
                if column not in file.schema_arrow.names:
                    there = did_you_mean(column, file.schema_arrow.names)
                    raise KzooError(f"{path} has no column '{column}'.{there}")
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise KzooError(f"{path} cannot be read as parquet: {error}.") from None


def table_format(path: str | os.PathLike[str]) -> TableFormat | None:
    """Return the kind of table that a file's name tells, or None.

    Example:
        >>> table_format("ag_news/test.csv.gz")
        'csv'
    """
    suffix = Path(str(path).removesuffix(".gz")).suffix.lower().removeprefix(".")
    return next((kind for kind in get_args(TableFormat) if kind == suffix), None)


def _as_cells(row: Mapping[str, Any]) -> dict[Column, str]:
    """Return the cells that have a value, as text: what is none already, as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in row.items()
        if value is not None
    }


def _missing(column: Column, cells: Mapping[Column, str], null: str) -> str:
    if isinstance(column, int):
        return f"column {column}: columns are numbered from 0 to {len(cells) - 1}."
    return f"column '{column}'{null}.{did_you_mean(column, map(str, cells))}"
