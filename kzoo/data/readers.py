"""Tables and aligned texts, plain or gzipped, to examples."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kzoo.data.examples import Examples
from kzoo.data.files import lines_of
from kzoo.data.labels import LabelCells, TableTask, words_of
from kzoo.data.tables import Column, Row, Table, TableFormat
from kzoo.errors import KzooError


def read_table(
    path: str | os.PathLike[str],
    *,
    text: Column | Sequence[Column],
    label: Column,
    text_pair: Column | Sequence[Column] | None = None,
    task: TableTask = "classification",
    format: TableFormat | None = None,
    encoding: str = "utf-8",
    quoting: bool | None = None,
    delimiter: str | None = None,
    label_names: Mapping[str, str] | None = None,
    known_labels: Collection[str] | None = None,
    separator: str = ",",
    scale: Sequence[float] | None = None,
    allow_empty: bool = False,
) -> Examples:
    """Read labelled texts from a table.

    Args:
        path: a file whose name ends in `.csv`, `.tsv` or `.jsonl`, with or without `.gz`, or in `.parquet`.
        text: the column of the text, or several, joined by a blank. A name looks in the header (in the objects
            of a `.jsonl`); a number, from 0, means that the file has no header. For `"tokens"` the words, as a
            JSON list or with blanks between them.
        label: the column of the label.
        text_pair: the column, or columns, of the second text, where an example is two.
        task: what labels are. `"multilabel"`: classes, as a JSON list or with `separator` between them;
            `"tokens"`: a tag for each word; `"regression"` and `"similarity"`: numbers.
        format: the kind of table, where the name does not tell.
        encoding: what the characters are written in.
        quoting: whether cells may be in quotes; those of a `.csv` may, those of a `.tsv` may not, unless given.
        delimiter: the character between the cells of a `.csv`; a comma unless given.
        label_names: what the labels in the file are called; a label that is not among them is an error.
        known_labels: the only labels that may come up, after renaming.
        separator: see `task`.
        scale: the lowest and the highest number, which become 0 and 1.
        allow_empty: whether texts may be empty, as in what is yet to be cleaned.

    Returns:
        Texts, or pairs of texts, and labels: names; lists of names, for several and for tags; or numbers.

    Raises:
        KzooError: naming file and line: an unknown column, a row with more or fewer cells than the first, bytes
            of another encoding, a damaged or empty file, an empty text, an unknown label, no number.

    Example:
        >>> from kzoo.data import locate
        >>> read_table(locate("samples/topics.csv"), text="text", label="topic").targets[0]
        'cooking'
    """
    table = Table(Path(path), format, encoding, quoting, delimiter)
    parts = [_columns(text)] + ([_columns(text_pair)] if text_pair is not None else [])
    labels = LabelCells(task, separator, scale, label_names, known_labels)
    inputs, targets = [], []
    for row in table.rows_with([*(column for part in parts for column in part), label]):
        try:
            texts, target = _example(row, parts, label, labels, allow_empty)
        except KzooError as error:
            raise KzooError(f"{path}, {row.place}: {error}") from None
        inputs.append(texts if text_pair is not None else texts[0])
        targets.append(target)
    return Examples(inputs, targets)


def _columns(given: Column | Sequence[Column]) -> list[Column]:
    return [given] if isinstance(given, str | int) else list(given)


def _example(
    row: Row, parts: Sequence[Sequence[Column]], label: Column, labels: LabelCells, allow_empty: bool
) -> tuple[Any, Any]:
    """Return a row's texts, a tuple, and its label."""
    texts = tuple(" ".join(row.cells[column] for column in part) for part in parts)
    target = labels.read(row.cells[label])
    if not allow_empty and not all(text.strip() for text in texts):
        raise KzooError(f"the text is empty. Remove the {row.place.split()[0]}.")
    if labels.task == "tokens":
        words = words_of(texts[0])
        if len(words) != len(target):
            raise KzooError(f"there are {len(words)} words and {len(target)} labels.")
        texts = (" ".join(words),)
    return texts, target


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
    sources, targets = (list(lines_of(Path(path))) for path in (source, target))
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
    table = Table(Path(path), format)
    sources: list[str] = []
    targets: list[str] = []
    for place, cells in table.rows_with([source, target]):
        for column, texts in ((source, sources), (target, targets)):
            if not allow_empty and not cells[column].strip():
                raise KzooError(
                    f"{path}, {place}: column {column!r} is empty. Remove the {place.split()[0]}."
                )
            texts.append(cells[column])
    return Examples(sources, targets)
