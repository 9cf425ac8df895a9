"""Tables and aligned texts, plain or gzipped, to examples."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from kzoo.data.examples import Examples
from kzoo.errors import KzooError, did_you_mean

TableFormat = Literal["csv", "tsv", "jsonl"]
# A column's name in the header, or its number, from 0, in a file without one.
Column: TypeAlias = str | int
# A line's number, from 1, and its cells, by name or by number.
Row: TypeAlias = tuple[int, Mapping[Column, str]]


def read_table(
    path: str | os.PathLike[str],
    *,
    text: Column | Sequence[Column],
    label: Column,
    format: TableFormat | None = None,
    label_names: Mapping[str, str] | None = None,
    known_labels: Collection[str] | None = None,
) -> Examples:
    """Read labelled texts from a table in UTF-8.

    Args:
        path: a file whose name ends in `.csv`, `.tsv` or `.jsonl`, with or without `.gz`. Cells of a `.csv` may
            be quoted, those of a `.tsv` may not.
        text: the column of the text, or several, joined by a blank. A name looks in the header (in the objects
            of a `.jsonl`); a number, from 0, means that the file has no header.
        label: the column of the label.
        format: the kind of table, where the name does not tell.
        label_names: what the labels in the file are called; a label that is not among them is an error.
        known_labels: the only labels that may come up, after renaming.

    Returns:
        Texts, and names of labels.

    Raises:
        KzooError: naming file and line: an unknown column, a row with more or fewer cells than the first, bytes
            that are not UTF-8, a damaged or empty file, an unknown label.

    Example:
        >>> from kzoo.data import locate
        >>> read_table(locate("samples/topics.csv"), text="text", label="topic").targets[0]
        'cooking'
    """
    file = Path(path)
    columns = [text] if isinstance(text, str | int) else list(text)
    texts, labels = [], []
    for line, row in _table_rows(file, format, [*columns, label]):
        name = row[label].strip()
        if label_names is not None:
            if name not in label_names:
                raise KzooError(
                    f"{file}, line {line}: the label '{name}' is not in label_names."
                    f"{did_you_mean(name, label_names)}"
                )
            name = label_names[name]
        if not name:
            raise KzooError(f"{file}, line {line}: the label is empty.")
        if known_labels is not None and name not in known_labels:
            raise KzooError(
                f"{file}, line {line}: the label '{name}' does not occur in the training data."
                f"{did_you_mean(name, known_labels)}"
            )
        texts.append(" ".join(row[column] for column in columns))
        labels.append(name)
    return Examples(texts, labels)


def read_pairs(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, allow_empty: bool = False
) -> Examples:
    """Read two UTF-8 files whose lines belong together, a text a line, with or without `.gz`.

    Args:
        source: the source texts' file.
        target: the target texts' file.
        allow_empty: whether lines may be empty, as in what is yet to be cleaned.

    Returns:
        Source texts, and target texts.

    Raises:
        KzooError: naming the file: unequal numbers of lines, an empty line, damage.
    """
    sources, targets = (list(_lines(Path(path))) for path in (source, target))
    if len(sources) != len(targets):
        raise KzooError(
            f"{source} has {len(sources)} lines and {target} {len(targets)}: line by line they must belong "
            "together."
        )
    for path, lines in ((source, sources), (target, targets)):
        for line, content in lines:
            if not allow_empty and not content.strip():
                raise KzooError(f"{path}, line {line} is empty: remove the line from both files.")
    return Examples([content for _, content in sources], [content for _, content in targets])


def read_pair_table(
    path: str | os.PathLike[str],
    *,
    source: Column,
    target: Column,
    format: TableFormat | None = None,
    allow_empty: bool = False,
) -> Examples:
    """Read pairs of texts from two columns of a table in UTF-8.

    Args:
        path: a file as for `read_table`.
        source: the source texts' column, by name or by number.
        target: the target texts' column.
        format: the kind of table, where the name does not tell.
        allow_empty: whether cells may be empty, as in what is yet to be cleaned.

    Returns:
        Source texts, and target texts.

    Raises:
        KzooError: as by `read_table`, and for an empty cell.
    """
    file = Path(path)
    sources: list[str] = []
    targets: list[str] = []
    for line, row in _table_rows(file, format, [source, target]):
        for column, texts in ((source, sources), (target, targets)):
            if not allow_empty and not row[column].strip():
                raise KzooError(f"{file}, line {line}: column {column!r} is empty. Remove the line.")
            texts.append(row[column])
    return Examples(sources, targets)


def _table_rows(file: Path, format: TableFormat | None, columns: Sequence[Column]) -> Iterator[Row]:
    """Yield the rows of a table that has these columns."""
    kind = format or table_format(file)
    if kind is None:
        raise KzooError(
            f"{file}: its name does not tell what kind of table it is. Say which: csv, tsv or jsonl."
        )
    if len({type(column) for column in columns}) != 1:
        raise KzooError(f"The columns {[*columns]} mix names and numbers: use one or the other.")
    line = None
    for line, row in _ROWS[kind](file, isinstance(columns[0], str)):
        for column in columns:
            if column not in row:
                raise KzooError(f"{file}, line {line}: there is no {_missing(column, row)}")
        yield line, row
    if line is None:
        raise KzooError(f"{file} has no rows.")


def table_format(path: str | os.PathLike[str]) -> TableFormat | None:
    """Return the kind of table that a file's name tells, or None.

    Example:
        >>> table_format("ag_news/test.csv.gz")
        'csv'
    """
    suffix = Path(str(path).removesuffix(".gz")).suffix.lower()
    formats: dict[str, TableFormat] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}
    return formats.get(suffix)


def _missing(column: Column, row: Mapping[Column, str]) -> str:
    if isinstance(column, int):
        return f"column {column}: columns are numbered from 0 to {len(row) - 1}."
    return f"column '{column}'.{did_you_mean(column, map(str, row))}"


def read_text(path: str | os.PathLike[str]) -> str:
    """Return what a UTF-8 file says, plain or with `.gz`, without a byte order mark.

    Raises:
        KzooError: naming the file, and the line where bytes are not UTF-8.
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
        content = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise KzooError(
            f"{file}, line {line}: byte {data[error.start]:#04x} is not UTF-8. Save the file as UTF-8."
        ) from None
    return content.removeprefix("\ufeff")


def _content(file: Path) -> str:
    content = read_text(file)
    if not content.strip():
        raise KzooError(f"{file} is empty.")
    return content


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    # Not splitlines: it cuts at characters that may stand inside a text, such as U+2028.
    for number, line in enumerate(_content(file).removesuffix("\n").split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _named(file: Path, records: Iterator[tuple[int, list[str]]], has_header: bool) -> Iterator[Row]:
    names: list[Column] | None = None
    for line, cells in records:
        if names is None:
            names = list(cells) if has_header else list(range(len(cells)))
            if len(set(names)) != len(names):
                raise KzooError(f"{file}, line {line}: the header has a name twice: {', '.join(cells)}.")
            if has_header:
                continue
        if len(cells) != len(names):
            raise KzooError(
                f"{file}, line {line} has {len(cells)} cells; the first line has {len(names)}. "
                "Mend the line, or check the kind of table."
            )
        yield line, dict(zip(names, cells, strict=True))


def _tsv_rows(file: Path, has_header: bool) -> Iterator[Row]:
    records = ((line, content.split("\t")) for line, content in _lines(file) if content.strip())
    return _named(file, records, has_header)


def _csv_rows(file: Path, has_header: bool) -> Iterator[Row]:
    def records() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(_content(file), newline=""), strict=True)
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise KzooError(f"{file}, line {line}: not a row of a CSV file: {error}.") from None

    return _named(file, records(), has_header)


def _jsonl_rows(file: Path, has_header: bool) -> Iterator[Row]:
    if not has_header:
        raise KzooError(f"{file}: the columns of a .jsonl file have names, not numbers.")
    for line, content in _lines(file):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise KzooError(f"{file}, line {line} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise KzooError(f"{file}, line {line} is not a JSON object.")
        yield (
            line,
            {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in row.items()
                if value is not None
            },
        )


_ROWS: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "csv": _csv_rows,
    "tsv": _tsv_rows,
    "jsonl": _jsonl_rows,
}
