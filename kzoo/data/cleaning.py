"""Examples cleaned before a model learns from them, with a report of what was dropped and why."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class DuplicateReport:
    """What was dropped because its text is there elsewhere.

    Attributes:
        read: examples there were.
        before: rows, from 1, whose text was there before.
        held_out: rows whose text is in the test or validation data.
        contradictions: pairs of the row that was kept and one that was not, with the same text and another label.
    """

    read: int
    before: list[int]
    held_out: list[int]
    contradictions: list[tuple[int, int]]

    def __str__(self) -> str:
        dropped = len(self.before) + len(self.held_out)
        said = f"{self.read:,} examples read, {self.read - dropped:,} kept"
        reasons = [f"{len(self.before):,} there before"] if self.before else []
        if self.held_out:
            reasons.append(f"{len(self.held_out):,} in the test or validation data")
        said += f"; dropped: {', '.join(reasons)}" if reasons else ""
        if self.contradictions:
            shown = ", ".join(f"{kept} and {dropped}" for kept, dropped in self.contradictions[:_SHOWN])
            more = (
                f", and {len(self.contradictions) - _SHOWN:,} more"
                if len(self.contradictions) > _SHOWN
                else ""
            )
            said += (
                f"; {len(self.contradictions):,} times the same text had another label, and the first was kept: rows "
                f"{shown}{more}"
            )
        return said


def drop_duplicates(
    examples: Examples, held_out: Sequence[Examples] = ()
) -> tuple[Examples, DuplicateReport]:
    """Keep the first example of each text, and none whose text is held out.

    Args:
        examples: texts or pairs of texts.
        held_out: what is not to be learnt from.

    Example:
        >>> examples = Examples(["hi", "hi", "bye"], ["ham", "spam", "ham"])
        >>> kept, report = drop_duplicates(examples)
        >>> kept.targets, report.contradictions
        (['ham', 'ham'], [(1, 2)])
    """
    elsewhere = {text for other in held_out for text in other.inputs}
    first: dict[Any, int] = {}
    report = DuplicateReport(len(examples), [], [], [])
    for row, text in enumerate(examples.inputs):
        if text in elsewhere:
            report.held_out.append(row + 1)
        elif text in first:
            report.before.append(row + 1)
            if examples.targets[row] != examples.targets[first[text]]:
                report.contradictions.append((first[text] + 1, row + 1))
        else:
            first[text] = row
    kept = list(first.values())
    return examples if len(kept) == len(examples) else examples.take(kept), report


def drop_empty(examples: Examples) -> tuple[Examples, list[int]]:
    """Drop examples with an empty text, and return their rows, from 1.

    Example:
        >>> kept, rows = drop_empty(Examples(["hi", " "], ["ham", "ham"]))
        >>> len(kept), rows
        (1, [2])
    """
    empty = [
        row
        for row, given in enumerate(examples.inputs)
        if not all(str(text).strip() for text in (given if isinstance(given, tuple) else (given,)))
    ]
    if not empty:
        return examples, []
    kept = sorted(set(range(len(examples))).difference(empty))
    return examples.take(kept), [row + 1 for row in empty]
