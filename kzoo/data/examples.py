"""Examples: what goes into a model, and what should come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError


@dataclass(frozen=True)
class Examples:
    """Inputs and the targets that belong to them, one each.

    Attributes:
        inputs: texts; or images, as paths or as a uint8 array (n, height, width, channels).
        targets: names of classes, or target texts.
    """

    inputs: Sequence[str] | Sequence[Path] | np.ndarray
    targets: list[str]

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
        stratify: whether each class gives the same share.

    Returns:
        The rest, and the share.

    Raises:
        KzooError: a part would be empty, or a class too small to be in both.

    Example:
        >>> rest, held = split(Examples(["a", "b", "c", "d"], ["x", "y", "x", "y"]), 0.5)
        >>> sorted(held.targets)
        ['x', 'y']
    """
    try:
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingDependencyError(
            "Splitting data needs scikit-learn: pip install 'kzoo[train]'."
        ) from None
    rarest, count = min(Counter(examples.targets).items(), key=lambda item: item[1], default=("", 0))
    if stratify and count == 1:
        raise KzooError(
            f"Only one example has the label '{rarest}', too few for a split: remove it, give it company, or "
            "give the parts as files."
        )
    try:
        rest, held = train_test_split(
            np.arange(len(examples)),
            test_size=share,
            random_state=seed,
            stratify=examples.targets if stratify else None,
        )
    except ValueError as error:
        raise KzooError(f"Cannot set {share} of {len(examples)} examples aside: {error}") from None
    return examples.take(rest.tolist()), examples.take(held.tolist())


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
