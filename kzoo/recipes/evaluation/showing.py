"""Examples for the card: those that went worst, and translations as they come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from kzoo.data import Examples, ImageBytes
from kzoo.recipes.evaluation.answers import Answers, WordLabels
from kzoo.text.strings import Text, parts_of

_COUNT = 5
_HARDEST = 10
_TO_TRY = 4
# Fewest characters of a text to try.
_SHORT = 15
# Most characters of a text that is shown.
_LONGEST = 240
# What Markdown would take for more than a character, outside the beginning of a line.
_MEANS_MORE = re.compile(r"([\\`*_{}\[\]<>#|~&@$:])")


def show_translations(
    sources: Sequence[str], targets: Sequence[str], translations: Sequence[str], count: int = _COUNT
) -> dict[str, list[dict[str, Any]]]:
    """Return the first translations as `samples`, and as `failures` those of the lowest chrF, the lowest first.

    Args:
        sources: what was translated.
        targets: what should have come out.
        translations: what came out.
        count: most of each.

    Example:
        >>> shown = show_translations(["a", "b"], ["Hund", "Katze"], ["Hund", "Hand"], count=1)
        >>> shown["samples"][0]["translation"], shown["failures"][0]["translation"]
        ('Hund', 'Hand')
    """
    import sacrebleu

    metric = sacrebleu.CHRF()
    rows = [
        {
            "source": source,
            "reference": target,
            "translation": translation,
            "chrf": round(metric.sentence_score(translation, [target]).score, 1),
        }
        for source, target, translation in zip(sources, targets, translations, strict=True)
    ]
    return {"samples": rows[:count], "failures": sorted(rows, key=lambda row: row["chrf"])[:count]}


def as_tables(shown: dict[str, list[dict[str, Any]]]) -> str:
    """Return both as sections of a card, in Markdown."""

    def table(rows: list[dict[str, Any]]) -> str:
        return markdown_table(
            ("source", "reference", "translation", "chrF"),
            [(row["source"], row["reference"], row["translation"], f"{row['chrf']:.0f}") for row in rows],
            numbers=1,
        )

    return (
        f"\n## Translations of the first test sentences\n\n{table(shown['samples'])}\n"
        "\n## Known failures\n\nThe test sentences whose translations have least in common with their references, "
        f"by chrF.\n\n{table(shown['failures'])}\n"
    )


def show_hardest(examples: Examples, found: Answers, count: int = _HARDEST) -> list[dict[str, Any]]:
    """Return the examples whose answers are most wrong, the worst first.

    Args:
        examples: inputs, and what should have come out.
        found: the answers to them.
        count: most of them.

    Returns:
        For each `input`, `expected`, `found`, and `loss`, by which they are ranked.
    """
    losses = found.losses(examples.targets)
    if losses is None:
        return []
    words = isinstance(found, WordLabels)
    rows = []
    for place in np.argsort(-losses, kind="stable")[:count].tolist():
        text = _described(examples.inputs[place], place)
        right, answer = examples.targets[place], found.found[place]
        if words:
            right, answer = _where_they_differ(text, right, answer)
        rows.append(
            {"input": text, "expected": right, "found": answer, "loss": round(float(losses[place]), 4)}
        )
    return rows


def texts_to_try(examples: Examples, count: int = _TO_TRY) -> list[Text]:
    """Return the first texts, or pairs, that are neither short nor long, of as many classes as can be.

    Example:
        >>> texts_to_try(Examples(["too short", "The striker scored twice.", "Shares fell again."], ["a", "b", "c"]))
        ['The striker scored twice.', 'Shares fell again.']
    """
    targets = [str(target) for target in examples.targets]
    most = max(1, count // max(1, len(set(targets))))
    taken: Counter[str] = Counter()
    found: list[Text] = []
    for text, target in zip(examples.inputs, targets, strict=True):
        if not isinstance(text, str | tuple) or len(found) == count:
            break
        if taken[target] < most and all(_SHORT <= len(part) <= _LONGEST for part in parts_of(text)):
            taken[target] += 1
            found.append(text)
    return found


def hardest_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return hardest examples as a section of a card, in Markdown; nothing of none."""
    if not rows:
        return ""
    cells = [
        (row["input"], _plain(row["expected"]), _plain(row["found"]), f"{row['loss']:.2f}") for row in rows
    ]
    table = markdown_table(("input", "expected", "found", "loss"), cells, numbers=1)
    return f"\n## Hardest examples\n\nThe test examples with the largest loss.\n\n{table}\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """Return a table in Markdown, whose last columns are numbers; the cells mean nothing but their characters."""
    texts = len(head) - numbers
    lines = [head, ["---"] * texts + ["---:"] * numbers, *([cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    r"""Return a text as a cell of a table in Markdown: one line, not too long, nothing in it a command.

    Example:
        >>> print(cell("*Win* <b>$9</b>\nat www.example.com"))
        \*Win\* \<b\>\$9\</b\> at www\.example.com
    """
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST].rstrip()} …"
    return _MEANS_MORE.sub(r"\\\1", line).replace("www.", r"www\.")


def prompts_to_try(examples: Examples, count: int = _TO_TRY) -> list[Text]:
    """Return first lines of paragraphs from all over some plain text, for a model to go on from.

    Example:
        >>> prompts_to_try(Examples(["ROMEO:\\nI dream'd a dream to-night."], [""]))
        ['ROMEO:\\n']
    """
    paragraphs = [part for text in examples.inputs for part in re.split(r"\n\s*\n", text.strip())]
    if len(examples) == 1 and len(paragraphs) > 1:
        # The end of a longer text may begin within a paragraph.
        paragraphs = paragraphs[1:]
    lines = [paragraph.partition("\n") for paragraph in paragraphs]
    found = dict.fromkeys(
        first + end
        for first, end, _ in lines[:: max(1, len(lines) // (4 * count))]
        if 0 < len(first) <= _LONGEST
    )
    return list(found)[:count]


def _described(given: Any, place: int) -> str:
    """Return an input in words; of an image its file's name and folder, or its number."""
    if isinstance(given, np.ndarray):
        return f"image {place}"
    if isinstance(given, Path | ImageBytes):
        return "/".join(PurePath(given.name if isinstance(given, ImageBytes) else given).parts[-2:])
    return " / ".join(given) if isinstance(given, tuple) else str(given)


def _where_they_differ(text: str, right: Sequence[str], answer: Sequence[str]) -> tuple[list[str], list[str]]:
    places = [place for place, pair in enumerate(zip(right, answer, strict=True)) if len(set(pair)) > 1]
    words = re.findall(r"\S+", text)
    sides = ([f"{words[place]} {side[place]}" for place in places] for side in (right, answer))
    return tuple(sides)  # type: ignore[return-value] # two, for two


def _plain(answer: Any) -> str:
    if isinstance(answer, list):
        return ", ".join(answer) or "none"
    return f"{answer:.2f}" if isinstance(answer, float) else str(answer)
