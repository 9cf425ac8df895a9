"""Which columns of a table hold texts and labels, where nobody says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kzoo.data.labels import NUMBER_TASKS, TableTask, as_number, label_items
from kzoo.data.tables import Column, Table
from kzoo.errors import KzooError

# Names of columns, in lower case and without anything but letters and digits.
_TEXTS = (
    *("text", "texts", "sentence", "content", "message", "review", "comment"),
    *("document", "body", "tweet", "question"),
)
_WORDS = ("words", "tokens")
_PAIRS = (
    *(("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2")),
    *(("sentencea", "sentenceb"), ("texta", "textb"), ("premise", "hypothesis"), ("query", "document")),
)
_CLASSES = (
    *("label", "labels", "class", "classes", "category", "categories", "target", "targets"),
    *("topic", "sentiment", "intent", "emotion", "emotions"),
)
_TAGS = ("tags", "nertags", "postags", "label", "labels")
_NUMBERS = ("score", "scores", "similarity", "rating", "stars", "label", "target", "value")
# A column of texts is the longest by far if it is so many times as long as the next.
_LONGER = 2.0
# So is one of classes the one with the fewest, if the next has so many times as many.
_FEWER = 10


@dataclass(frozen=True)
class FoundColumns:
    """Where texts and labels are: names of columns, or numbers in a file without a header.

    Attributes:
        text: the text's columns.
        text_pair: the second text's, if there is one.
        label: the label's column.
    """

    text: list[Column]
    text_pair: list[Column]
    label: Column

    def __str__(self) -> str:
        said = f"text in {_named(self.text)}, "
        said += f"second text in {_named(self.text_pair)}, " if self.text_pair else ""
        header = "" if isinstance(self.label, str) else " of a file without a header"
        return f"{said}label in {_named([self.label])}{header}"


def find_columns(
    table: Table,
    *,
    task: TableTask = "classification",
    text: Sequence[Column] = (),
    text_pair: Sequence[Column] = (),
    label: Column | None = None,
    separator: str = ",",
) -> FoundColumns:
    """Find the columns that are not given: by usual names in the header, or else by what they hold.

    The label's column is the one with the fewest different values; for a task with numbers, the one of numbers. The
    text's is the one with the longest texts; for `"similarity"` these are the two longest.

    Args:
        table: the file.
        task: what labels are, see `read_table`.
        text: the text's columns, if known.
        text_pair: the second text's, if known.
        label: the label's, if known.
        separator: see `read_table`.

    Raises:
        KzooError: more than one column may be it, or none; the message names them.

    Example:
        >>> from kzoo.data import locate
        >>> print(find_columns(Table(locate("samples/topics.csv"))))
        text in column 'text', label in column 'topic'
    """
    given = [*text, *text_pair, *([label] if label is not None else [])]
    columns = _read(table, isinstance(given[0], str) if given else None)
    search = _Search(table, columns, task, separator)
    if label is None:
        label = search.label([*text, *text_pair])
    if not text:
        text, text_pair = search.texts([label])
    return FoundColumns(list(text), list(text_pair), label)


@dataclass(frozen=True)
class _Search:
    """A table's columns with all that they hold, and what is looked for."""

    table: Table
    columns: Mapping[Column, Sequence[str]]
    task: TableTask
    separator: str

    def label(self, taken: Sequence[Column]) -> Column:
        free = {name: cells for name, cells in self.columns.items() if name not in taken}
        usual = _NUMBERS if self.task in NUMBER_TASKS else _TAGS if self.task == "tokens" else _CLASSES
        named = [name for name in free if _plain(name) in usual]
        if named:
            return self._only(named, "label")
        if self.task == "tokens":
            raise self._unclear([], "label")
        if self.task in NUMBER_TASKS:
            return self._only([name for name, cells in free.items() if _all_numbers(cells)], "label")
        counts = {name: self._classes(cells) for name, cells in free.items()}
        likely = sorted((count, name) for name, count in counts.items() if count)
        if len(likely) > 1 and likely[1][0] >= _FEWER * likely[0][0]:
            return likely[0][1]
        return self._only([name for _, name in likely], "label")

    def texts(self, taken: Sequence[Column]) -> tuple[list[Column], list[Column]]:
        free = {name: cells for name, cells in self.columns.items() if name not in taken}
        by_name = {_plain(name): name for name in free}
        pairs = [pair for pair in _PAIRS if by_name.keys() >= set(pair)] if self.task != "tokens" else []
        if len(pairs) == 1:
            first, second = pairs[0]
            return [by_name[first]], [by_name[second]]
        named = [name for name in free if _plain(name) in (_WORDS if self.task == "tokens" else _TEXTS)]
        if pairs:
            raise self._unclear([by_name[side] for pair in pairs for side in pair], "text")
        if named and self.task != "similarity":
            return [self._only(named, "text")], []
        if self.task == "tokens":
            raise self._unclear([], "text")
        wanted = 2 if self.task == "similarity" else 1
        lengths = {name: sum(map(len, cells)) / max(len(cells), 1) for name, cells in free.items()}
        longest = sorted(free, key=lambda name: lengths[name], reverse=True)
        near = [name for name in longest[wanted:] if lengths[name] * _LONGER > lengths[longest[wanted - 1]]]
        if near or len(longest) < wanted:
            raise self._unclear([*longest[:wanted], *near], "text")
        found = sorted(longest[:wanted], key=list(free).index)
        return found[:1], found[1:]

    def _classes(self, cells: Sequence[str]) -> int:
        """Return how many different classes a column has; 0 if it has one, or hardly any twice."""
        items = [item for cell in cells for item in _items(cell, self.task, self.separator)]
        different = len(set(items))
        return different if 2 <= different <= len(items) / 2 else 0

    def _only(self, names: Sequence[Column], what: str) -> Column:
        if len(names) != 1:
            raise self._unclear(names, what)
        return names[0]

    def _unclear(self, names: Sequence[Column], what: str) -> KzooError:
        usual = "" if names else f"; there are {_named(list(self.columns))}"
        may = f"{_named(names)} may each be it" if len(names) > 1 else f"no column is clearly it{usual}"
        one_row = {name: next(iter(cells), "") for name, cells in self.columns.items()}
        return KzooError(
            f"{self.table.path}: which column is the {what} cannot be told: {may}. Say it, as in data.{what} = "
            f"{next(iter(names or self.columns))!r}.{self.table.delimiter_hint(one_row)}"
        )


def _read(table: Table, has_header: bool | None) -> dict[Column, list[str]]:
    """Return what each column holds."""
    columns: dict[Column, list[str]] = {}
    if table.names_columns:
        for _, cells in table.rows(True):
            for name, cell in cells.items():
                columns.setdefault(name, []).append(cell)
        return columns
    first, *rest = [list(cells.values()) for _, cells in table.rows(False)]
    if has_header is None:
        has_header = _is_header(first, [list(cells) for cells in zip(*rest, strict=True)])
    names: Sequence[Column] = first if has_header else range(len(first))
    rows = rest if has_header else [first, *rest]
    return {name: [cells[index] for cells in rows] for index, name in enumerate(names)}


def _is_header(first: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row is names rather than an example; `columns` has the other rows."""
    if len(set(first)) != len(first) or any(as_number(cell) is not None for cell in first):
        return False
    usual = {*_TEXTS, *_WORDS, *_CLASSES, *_TAGS, *_NUMBERS, *(name for pair in _PAIRS for name in pair)}
    if any(_plain(cell) in usual for cell in first) or any(map(_all_numbers, columns)):
        return True
    # Classes come up again and again; the name of their column does not.
    named = zip(first, columns, strict=False)
    classes = [(name, cells) for name, cells in named if len(set(cells)) <= len(cells) / 2]
    return bool(classes) and all(name not in cells for name, cells in classes)


def _items(cell: str, task: TableTask, separator: str) -> list[str]:
    try:
        return label_items(cell, task, separator)
    except KzooError:  # a text that looks like a list
        return [cell]


def _all_numbers(cells: Iterable[str]) -> bool:
    return all(as_number(cell) is not None for cell in cells)


def _plain(name: Column) -> str:
    return re.sub(r"[\W_]+", "", str(name)).lower()


def _named(columns: Sequence[Column]) -> str:
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(map(repr, columns))}"
