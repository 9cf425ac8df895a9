"""How far two outputs are apart: the figures of an export's report, and of `kzoo verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Values beyond it hide what must not be chosen; next to them no direction would say anything about the others.
_HIDDEN = 1e8
_CHOICES = ("logit", "prob", "score", "prediction")


@dataclass(frozen=True)
class Difference:
    """How far an output is from what it should be: the worst over all cases that were compared.

    Attributes:
        absolute: largest absolute difference.
        relative: largest difference over the value expected, or over the output's median where that is larger; where
            both are 0 there is none.
        cosine: cosine of the angle between the two; 0 where one of them has no direction.
        agreement: share of places whose largest entry is the same one, from 0 to 1; None where the last axis is no
            choice among classes or tokens.
    """

    absolute: float = 0.0
    relative: float = 0.0
    cosine: float = 1.0
    agreement: float | None = None

    def __or__(self, other: Difference) -> Difference:
        """Return the worse of the two in every figure."""
        shares = [share for share in (self.agreement, other.agreement) if share is not None]
        return Difference(
            absolute=float(np.maximum(self.absolute, other.absolute)),
            relative=float(np.maximum(self.relative, other.relative)),
            cosine=float(np.minimum(self.cosine, other.cosine)),
            agreement=min(shares, default=None),
        )


@dataclass(frozen=True)
class Comparison:
    """One output in one case.

    Attributes:
        difference: the figures.
        beyond: how many values differ by more than the tolerance.
        total: how many there are.
        place: index of the worst.
        account: what stands there, for a message.
    """

    difference: Difference
    beyond: int
    total: int
    place: tuple[int, ...]
    account: str


def compare(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: float) -> Comparison:
    """Compare two arrays of one shape.

    A value is within the tolerance if it differs by at most `tolerance * (1 + size)`, where `size` is that of the
    value expected, or the output's median where that is larger. Two NaN agree, and so do two infinities of one sign.

    Args:
        name: the output's name; it tells whether its last axis is a choice among classes or tokens.
        expected: what should come out.
        actual: what did.
        tolerance: the bound.

    Example:
        >>> result = compare("logits", np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]), 1e-4)
        >>> result.beyond, result.place, result.difference.absolute
        (1, (0, 1), 0.5)
    """
    wanted, found = expected.astype("float64"), actual.astype("float64")
    if not wanted.size:
        return Comparison(Difference(agreement=None), 0, 0, (), "")
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(same, 0.0, np.abs(found - wanted))
    gap[np.isnan(gap)] = np.inf
    size = _sizes(wanted)
    excess = gap / (1.0 + size)
    place = tuple(int(index) for index in np.unravel_index(int(excess.argmax()), excess.shape))
    relative = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
    difference = Difference(
        absolute=float(gap.max()),
        relative=float(relative.max()),
        cosine=_cosine(wanted, found),
        agreement=_agreement(wanted, found) if _is_choice(name, expected) else None,
    )
    account = f"{actual[place]:.6g} against {expected[place]:.6g}"
    return Comparison(difference, int((excess > tolerance).sum()), gap.size, place, account)


def join(differences: list[Difference]) -> Difference:
    """Return the worst of some differences, in every figure."""
    worst = differences[0]
    for difference in differences[1:]:
        worst |= difference
    return worst


def _sizes(wanted: np.ndarray) -> np.ndarray:
    magnitudes = np.abs(wanted)
    finite = magnitudes[np.isfinite(magnitudes)]
    median = float(np.median(finite)) if finite.size else 0.0
    return np.where(np.isfinite(magnitudes), np.maximum(magnitudes, median), median)


def _cosine(wanted: np.ndarray, found: np.ndarray) -> float:
    visible = (np.abs(wanted) < _HIDDEN) & np.isfinite(found)
    ours, theirs = found[visible], wanted[visible]
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if lengths == 0.0:
        return 1.0 if np.array_equal(ours, theirs) else 0.0
    return min(1.0, float(ours @ theirs) / lengths)


def _agreement(wanted: np.ndarray, found: np.ndarray) -> float:
    if wanted.shape[-1] == 0:
        return 1.0
    return float((_best(wanted) == _best(found)).mean())


def _best(array: np.ndarray) -> Any:
    return np.where(np.isnan(array), -np.inf, array).argmax(axis=-1)


def _is_choice(name: str, array: np.ndarray) -> bool:
    """Return whether the last axis holds the scores of classes or tokens: by its name, or because it sums to 1."""
    if array.ndim < 2 or array.shape[-1] < 2 or array.dtype.kind in "iub":
        return False
    if any(part in name.lower() for part in _CHOICES):
        return True
    return bool((array >= 0).all() and np.allclose(array.sum(axis=-1), 1.0, atol=1e-3))
