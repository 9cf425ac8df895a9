"""Examples: what goes into a model, and what should come out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError


@dataclass(frozen=True)
class Examples:
    """Inputs and the targets that belong to them, one each.

    Attributes:
        inputs: texts, or pairs of them; or images, as paths or as a uint8 array (n, height, width, channels).
        targets: names of classes; lists of them, for several classes and for a tag a word; numbers; or target texts.
    """

    inputs: Sequence[Any] | np.ndarray
    targets: list[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Sequence[int]) -> Examples:
        """Return the examples of these rows, in this order."""
        inputs: Any = self.inputs
        taken = inputs[np.asarray(rows, int)] if isinstance(inputs, np.ndarray) else [inputs[i] for i in rows]
        return Examples(taken, [self.targets[row] for row in rows])


def split(
    examples: Examples, share: float, *, seed: int = 0, stratify: bool = True
) -> tuple[Examples, Examples]:
    """Set a share of the examples aside; the same seed gives the same share.

    Args:
        examples: what to split.
        share: what part goes to the second result, between 0 and 1.
        seed: what the choice depends on.
        stratify: whether each class gives the same share; where examples have several, each one's rarest class.

    Returns:
        The rest, and the share.

    Raises:
        KzooError: a part would be empty, or a class too small to be in both.

    Example:
        >>> rest, held = split(Examples(["a", "b", "c", "d"], ["x", "y", "x", "y"]), 0.5)
        >>> sorted(held.targets)
        ['x', 'y']
    """
    selection = _selection()
    strata = _strata(examples.targets) if stratify else None
    rarest, count = min(Counter(strata).items(), key=lambda item: item[1], default=("", 0))
    if count == 1:
        raise KzooError(
            f"Only one example has the label '{rarest}', too few for a split: remove it, give it company, or "
            f"give the parts as files.{_as_ids(strata)}"
        )
    try:
        rest, held = selection.train_test_split(
            np.arange(len(examples)), test_size=share, random_state=seed, stratify=strata
        )
    except ValueError as error:
        raise KzooError(f"Cannot set {share} of {len(examples)} examples aside: {error}") from None
    return examples.take(rest.tolist()), examples.take(held.tolist())


def folds(
    examples: Examples, count: int, seed: int = 0, *, stratify: bool = True
) -> Iterator[tuple[Examples, Examples]]:
    """Split examples into parts, each of which is set aside once; the same seed gives the same parts.

    Args:
        examples: what to split.
        count: number of parts, at least 2.
        seed: what the choice depends on.
        stratify: as for `split`.

    Yields:
        The examples to train on, and those to validate on.

    Raises:
        KzooError: there are not as many examples as parts, or as many of a class.

    Example:
        >>> examples = Examples(["a", "b", "c", "d"], ["x", "y", "x", "y"])
        >>> [sorted(held.targets) for _, held in folds(examples, 2)]
        [['x', 'y'], ['x', 'y']]
    """
    selection = _selection()
    strata = _strata(examples.targets, count) if stratify else None
    rarest, least = min(Counter(strata).items(), key=lambda item: item[1], default=("", count))
    if least < count:
        raise KzooError(
            f"Only {least} examples have the label '{rarest}', too few for {count} folds.{_as_ids(strata)}"
        )
    kind = selection.KFold if strata is None else selection.StratifiedKFold
    try:
        splitter = kind(count, shuffle=True, random_state=seed)
        parts = list(splitter.split(np.arange(len(examples)), strata))
    except ValueError as error:
        raise KzooError(f"Cannot make {count} folds of {len(examples)} examples: {error}") from None
    for rest, held in parts:
        yield examples.take(rest.tolist()), examples.take(held.tolist())


def _selection() -> Any:
    try:
        from sklearn import model_selection
    except ImportError:
        raise MissingDependencyError(
            "Splitting data needs scikit-learn: pip install 'kzoo[train]'."
        ) from None
    return model_selection


def _strata(targets: Sequence[Any], least: int = 2) -> list[str] | None:
    """Return what each example is counted as, so that every class gives its share; None for numbers.

    An example of several classes counts as the rarest of them, if there are `least` of these.
    """
    if any(isinstance(target, float) for target in targets):
        return None
    if not any(isinstance(target, list) for target in targets):
        return list(targets)
    counts = Counter(label for target in targets for label in set(target))
    strata = [min(target, key=lambda label: (counts[label], label), default="") for target in targets]
    usual, _ = Counter(strata).most_common(1)[0]
    members = Counter(strata)
    return [stratum if members[stratum] >= least else usual for stratum in strata]


def looks_like_ids(targets: Sequence[str]) -> bool:
    """Return whether there are so many different labels that they are probably none.

    Example:
        >>> looks_like_ids([f"message {number}" for number in range(100)])
        True
    """
    return len(set(targets)) > max(20, len(targets) / 10)


def _as_ids(strata: Sequence[str] | None) -> str:
    if strata is None or not looks_like_ids(strata):
        return ""
    return f" There are {len(set(strata)):,} labels for {len(strata):,} examples: are these the labels?"


def split_by_hash(examples: Examples, below: int) -> tuple[Examples, Examples]:
    """Set those examples aside whose text's sha256, in UTF-8, starts with a byte below a number, whatever the others.

    Args:
        examples: texts; of a pair the first one counts.
        below: from 1 to 255; 256 would be all.

    Returns:
        The rest, and those.

    Raises:
        KzooError: one of them would be empty.

    Example:
        >>> rest, held = split_by_hash(Examples(["a dog", "a cat", "a bird"], ["x", "y", "x"]), 100)
        >>> held.inputs
        ['a cat']
    """
    rows: tuple[list[int], list[int]] = ([], [])
    for row, given in enumerate(examples.inputs):
        text = given[0] if isinstance(given, tuple) else str(given)
        rows[hashlib.sha256(text.encode()).digest()[0] < below].append(row)
    if not all(rows):
        raise KzooError(
            f"Of {len(examples)} texts {len(rows[1])} have a sha256 whose first byte is below {below}: one part "
            "would be empty."
        )
    return examples.take(rows[0]), examples.take(rows[1])


def class_names(targets: Sequence[str]) -> list[str]:
    """Return the different targets in order: by number if all are numbers, else by name.

    Example:
        >>> class_names(["10", "2", "2"])
        ['2', '10']
    """
    names = set(targets)
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
