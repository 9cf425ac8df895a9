"""What the cells of a table say that a model should: a class, classes, a tag a word, a number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kzoo.errors import KzooError, did_you_mean

TableTask = Literal["classification", "multilabel", "tokens", "regression", "similarity"]
# The tasks whose labels are numbers.
NUMBER_TASKS = ("regression", "similarity")


@dataclass(frozen=True)
class LabelCells:
    """How a cell becomes a label.

    Attributes:
        task: what labels are: a class; classes (`"multilabel"`); a tag for each word (`"tokens"`); a number.
        separator: what stands between the classes of a cell, where they are no JSON list.
        scale: the lowest and the highest number, which become 0 and 1.
        names: what the classes in the file are called; one that is not among them is an error.
        known: the only classes that may come up, after renaming.
    """

    task: TableTask = "classification"
    separator: str = ","
    scale: Sequence[float] | None = None
    names: Mapping[str, str] | None = None
    known: Collection[str] | None = None

    def read(self, cell: str) -> Any:
        """Return a cell's label: a str, for several classes and for tags a list of them, or a float.

        Raises:
            KzooError: saying what is wrong with the cell, and not where it is.
        """
        if self.task in NUMBER_TASKS:
            return self._number(cell)
        labels = [self._name(item) for item in label_items(cell, self.task, self.separator)]
        if self.task == "classification":
            return labels[0]
        return labels if self.task == "tokens" else list(dict.fromkeys(labels))

    def _name(self, label: str) -> str:
        if not label:
            raise KzooError("the label is empty.")
        if self.names is not None:
            if label not in self.names:
                raise KzooError(
                    f"the label '{label}' is not in label_names or classes.{did_you_mean(label, self.names)}"
                )
            label = self.names[label]
        if self.known is not None and label not in self.known:
            raise KzooError(
                f"the label '{label}' does not occur in the training data.{did_you_mean(label, self.known)}"
            )
        return label

    def _number(self, cell: str) -> float:
        number = as_number(cell)
        if number is None:
            raise KzooError(f"the label '{cell.strip()}' is no number.")
        low, high = self.scale or (0.0, 1.0)
        if (self.scale is not None or self.task == "similarity") and not low <= number <= high:
            hint = "" if self.scale is not None else ": say what it may be, as in data.scale = [0, 5]"
            raise KzooError(f"the label {number:g} is not from {low:g} to {high:g}{hint}.")
        return (number - low) / (high - low)


def label_items(cell: str, task: TableTask, separator: str = ",") -> list[str]:
    """Return the labels of a cell as they are written.

    Raises:
        KzooError: it looks like a list, and is no JSON.

    Example:
        >>> label_items("2, 14", "multilabel"), label_items('["B-PER", "O"]', "tokens"), label_items("O O", "tokens")
        (['2', '14'], ['B-PER', 'O'], ['O', 'O'])
    """
    content = cell.strip()
    if task not in ("multilabel", "tokens"):
        return [content]
    if content.startswith("[") and content.endswith("]"):
        items = _json_list(content)
        if items is None or not all(isinstance(item, str | int) for item in items):
            raise KzooError(f'the labels {content[:60]} are no JSON list, such as ["joy", "fear"].')
        return [str(item).strip() for item in items]
    if task == "tokens":
        return content.split()
    return [item.strip() for item in content.split(separator) if item.strip()]


def words_of(cell: str) -> list[str]:
    """Return the words of a cell: a JSON list of them, or what stands between blanks.

    Raises:
        KzooError: it looks like a list, and is no JSON; or a word of a list is empty or has a blank in it.
    """
    content = cell.strip()
    items = _json_list(content)
    if items is not None and all(isinstance(item, str) for item in items):
        for word in items:
            if not re.fullmatch(r"\S+", word):
                raise KzooError(f"the word '{word}' is empty or has a blank in it.")
        return items
    if content.startswith(("['", '["')):
        raise KzooError(f'the words {content[:60]} are no JSON list, such as ["A", "dog"].')
    return re.findall(r"\S+", content)


def as_number(cell: str) -> float | None:
    """Return the number that a cell says; None if it says none, or one that is not finite."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def names_of_numbers(classes: Sequence[str], labels: Iterable[str]) -> dict[str, str]:
    """Return what the labels in a file are called, which are the classes' names, or their numbers.

    Args:
        classes: the names in order.
        labels: all labels that the training file has, as they are written there.

    Returns:
        A name for each label that may be. Numbers count from 0, or from 1, if no label is 0 and one is as high as
        there are classes.

    Example:
        >>> names_of_numbers(["World", "Sports"], ["1", "2", "2"])
        {'1': 'World', '2': 'Sports'}
    """
    found = set(labels)
    if not all(label.isdecimal() for label in found):
        return {name: name for name in classes}
    first = 1 if "0" not in found and str(len(classes)) in found else 0
    return {str(number): name for number, name in enumerate(classes, start=first)}


def _json_list(content: str) -> list[Any] | None:
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else None
