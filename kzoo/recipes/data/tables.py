"""A recipe's tables: columns and classes found, texts and labels read, and a word on what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo.data import (
    NUMBER_TASKS,
    Examples,
    FoundColumns,
    Table,
    drop_duplicates,
    drop_empty,
    find_columns,
    label_items,
    lines_of,
    looks_like_ids,
    names_of_numbers,
    read_table,
    split_by_hash,
)
from kzoo.errors import KzooError
from kzoo.recipes.schema.data_kinds import TableData, listed

# How many classes, or rows, a remark names.
_SHOWN = 10


@dataclass(frozen=True)
class Tables:
    """What was read from a recipe's tables.

    Attributes:
        parts: `"train"`, and `"validation"` and `"test"` if they are there.
        classes: the names that the recipe gives to classes, in its order; not all need be in the data.
        notes: what a user should know, a line each.
    """

    parts: dict[str, Examples]
    classes: list[str]
    notes: list[str]


def read_tables(data: TableData, find: Callable[[str], Path]) -> Tables:
    """Read the tables of a recipe.

    Args:
        data: the recipe's section.
        find: finds a file by its name in the recipe.

    Raises:
        KzooError: a file is wrong, or what it holds; the message names file and line.
    """
    files = {
        part: Table(find(name), data.format, data.encoding, data.quoting, data.delimiter)
        for part in ("train", "validation", "test")
        if (name := getattr(data, part)) is not None
    }
    columns, notes = _columns(data, files["train"])
    names = _label_names(data, files["train"], columns, find)
    options = {
        "task": data.task,
        "label_names": names,
        "separator": data.separator or ",",
        "scale": data.scale,
    }
    parts: dict[str, Examples] = {}
    for part, table in files.items():
        text = data.test_text if part == "test" and data.test_text is not None else columns.text
        known = labels_of([parts["train"]]) if parts and data.task not in NUMBER_TASKS else None
        # What is measured on is taken as it is, or not at all.
        raw = part == "train"
        parts[part] = _read(table, text, columns, known, raw, options)
    parts["train"], empty = drop_empty(parts["train"])
    if empty:
        notes.append(f"{data.train}: {len(empty):,} rows without a text were dropped: {_first(empty)}.")
    if data.drop_duplicates:
        held = [examples for part, examples in parts.items() if part != "train"]
        parts["train"], report = drop_duplicates(parts["train"], held)
        notes.append(f"{data.train}: {report}.")
    if data.test_hash_below is not None:
        parts["train"], parts["test"] = split_by_hash(parts["train"], data.test_hash_below)
    return Tables(parts, list(dict.fromkeys(names.values())) if names else [], notes)


def labels_of(parts: Iterable[Examples | None]) -> set[str]:
    """Return the different classes of examples, whether these have one each, or several."""
    return set(_labels(target for examples in parts if examples is not None for target in examples.targets))


def check_targets(examples: Examples, task: str) -> None:
    """Refuse training examples from which there is nothing to learn.

    Raises:
        KzooError: there are none, or all are to be told the same.
    """
    if not len(examples):
        raise KzooError("There are no training examples: the data has none, or all of them were dropped.")
    labels = set(_labels(examples.targets))
    answers = [tuple(sorted(target)) if isinstance(target, list) else target for target in examples.targets]
    if len(labels if task == "tokens" else set(answers)) < 2:
        raise KzooError(
            f"All {len(examples):,} training examples have the same label, {', '.join(map(str, sorted(labels)))!r}: "
            f"there is nothing to tell apart.{'' if 'image' in task else ' Is this the column of labels?'}"
        )


def describe_classes(examples: Examples, labels: Sequence[str], named: Sequence[str] = ()) -> list[str]:
    """Return lines that say which classes there are, how often, and what is odd about that.

    Args:
        examples: what a model is to learn from.
        labels: the classes in order.
        named: classes that the recipe names.
    """
    counts = Counter(_labels(examples.targets))
    said = [f"{index} {label} ({counts[label]:,})" for index, label in enumerate(labels)]
    lines = [f"Classes, and how often they are in the training data: {_first(said)}."]
    unseen = [label for label in labels if not counts[label]]
    if unseen:
        lines.append(f"Only in what was set aside, so that no model can learn them: {_first(unseen)}.")
    absent = [name for name in named if name not in labels]
    if absent:
        lines.append(f"Named, but nowhere in the data, and left out: {_first(absent)}.")
    if looks_like_ids(list(counts.elements())):
        lines.append(
            f"{len(labels):,} classes for {len(examples):,} examples: is this the column of labels, or one of names "
            "or numbers of the rows?"
        )
    return lines


def _columns(data: TableData, table: Table) -> tuple[FoundColumns, list[str]]:
    text, pair = listed(data.text), listed(data.text_pair)
    if text and data.label is not None:
        return FoundColumns(text, pair, data.label), []
    separator = data.separator or ","
    found = find_columns(
        table, task=data.task, text=text, text_pair=pair, label=data.label, separator=separator
    )
    return found, [f"{data.train}: {found}."]


def _label_names(
    data: TableData, table: Table, columns: FoundColumns, find: Callable[[str], Path]
) -> dict[str, str] | None:
    """Return what the labels in the files are called, if the recipe says so."""
    if data.classes is None:
        return data.label_names
    path = find(data.classes)
    classes = [name.strip() for _, name in lines_of(path) if name.strip()]
    if len(set(classes)) != len(classes):
        twice = next(name for name, count in Counter(classes).items() if count > 1)
        raise KzooError(f"{path} names the class '{twice}' twice.")
    cells = (cells[columns.label] for _, cells in table.rows_with([columns.label]))
    items = (label_items(cell, data.task, data.separator or ",") for cell in cells)
    return names_of_numbers(classes, (item for labels in items for item in labels))


def _read(
    table: Table, text: Any, columns: FoundColumns, known: set[str] | None, raw: bool, options: dict[str, Any]
) -> Examples:
    return read_table(
        table.path,
        text=text,
        text_pair=columns.text_pair or None,
        label=columns.label,
        format=table.format,
        encoding=table.encoding,
        quoting=table.quoting,
        delimiter=table.delimiter,
        known_labels=known,
        allow_empty=raw,
        **options,
    )


def _labels(targets: Iterable[Any]) -> Iterator[Any]:
    for target in targets:
        yield from target if isinstance(target, list) else [target]


def _first(items: Sequence[Any]) -> str:
    """Return a list in words, the first ones of a long one."""
    more = f", and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more
