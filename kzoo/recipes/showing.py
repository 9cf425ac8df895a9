"""Translations for the card: a few as they come, and those that went worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COUNT = 5


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
        cells = [[row["source"], row["reference"], row["translation"], f"{row['chrf']:.0f}"] for row in rows]
        lines = [["source", "reference", "translation", "chrF"], ["---"] * 3 + ["---:"], *cells]
        return "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )

    return (
        f"\n## Translations of the first test sentences\n\n{table(shown['samples'])}\n"
        "\n## Known failures\n\nThe test sentences whose translations have least in common with their references, "
        f"by chrF.\n\n{table(shown['failures'])}\n"
    )
