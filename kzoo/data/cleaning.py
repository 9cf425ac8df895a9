"""Sentence pairs cleaned before a model learns from them, with a report of what was dropped and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kzoo.data.examples import Examples

# How many dropped rows a report shows of each kind.
_SHOWN = 5


class Cleaning(BaseModel):
    """What is dropped from pairs of texts besides those with an empty side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_characters: int | None = Field(default=None, gt=0)
    """Most characters of a text; a pair with a longer one is dropped."""

    max_ratio: float | None = Field(default=None, ge=1)
    """How many times as many characters one side may have as the other, those of short texts forgiven."""

    duplicates: bool = True
    """Whether a pair may be there more than once."""


@dataclass
class CleaningReport:
    """What was dropped, and why.

    Attributes:
        read: pairs there were.
        dropped: for each reason the rows, from 1: lines of a text file, rows of a table without its header.
    """

    read: int
    dropped: dict[str, list[int]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Number of pairs that were kept."""
        return self.read - sum(map(len, self.dropped.values()))

    def to_json(self) -> dict[str, Any]:
        """Return counts, and the first rows of each kind."""
        dropped = {
            reason: {"count": len(rows), "first_rows": rows[:_SHOWN]} for reason, rows in self.dropped.items()
        }
        return {"read": self.read, "kept": self.kept, "dropped": dropped}

    def __str__(self) -> str:
        reasons = ", ".join(f"{len(rows):,} {reason}" for reason, rows in self.dropped.items())
        return f"{self.read:,} pairs read, {self.kept:,} kept" + (f"; dropped: {reasons}" if reasons else "")


def clean_pairs(pairs: Examples, rules: Cleaning) -> tuple[Examples, CleaningReport]:
    """Drop pairs that teach a model little or nothing; each is counted for the first reason that applies.

    Args:
        pairs: source and target texts.
        rules: what is dropped besides pairs with an empty side.

    Example:
        >>> pairs = Examples(["A dog.", "", "A dog."], ["Ein Hund.", "Leer.", "Ein Hund."])
        >>> kept, report = clean_pairs(pairs, Cleaning(duplicates=False))
        >>> print(report)
        3 pairs read, 1 kept; dropped: 1 with an empty side, 1 there before
    """
    report = CleaningReport(len(pairs))
    kept: list[int] = []
    seen: set[tuple[str, str]] = set()
    for row, (source, target) in enumerate(zip(map(str, pairs.inputs), pairs.targets, strict=True)):
        reason = _reason(source.strip(), target.strip(), rules)
        if reason is None and not rules.duplicates:
            pair = (source.strip(), target.strip())
            reason = "there before" if pair in seen else None
            seen.add(pair)
        if reason is None:
            kept.append(row)
        else:
            report.dropped.setdefault(reason, []).append(row + 1)
    return pairs if len(kept) == len(pairs) else pairs.take(kept), report


def _reason(source: str, target: str, rules: Cleaning) -> str | None:
    """Return why a pair is dropped, whatever the others are; None if it is not."""
    shorter, longer = sorted((len(source), len(target)))
    if not shorter:
        return "with an empty side"
    if rules.max_characters is not None and longer > rules.max_characters:
        return "too long"
    # A few characters more or less say nothing of short texts.
    if rules.max_ratio is not None and longer > rules.max_ratio * (shorter + 10):
        return "of too different lengths"
    return None
