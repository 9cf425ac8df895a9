"""Colours that are the stronger the more there is of something: of a token's look at another, of a word's say."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kzoo.runtime.explanation import Explanation

_SHADES = 9  # gallery.css has this many, and none for 0
_LEGEND = (
    '<p class="legend"><span class="shade-6">for it</span> <span class="against-6">against it</span></p>'
)


def draw(alignment: dict[str, Any]) -> str:
    """Return HTML for what a translation's `alignment` says: a column for each source token, a row for each target's.

    Colours are classes, which the page's own rules on what may stand in it let through.
    """
    head = "".join(f"<th><span>{_shown(piece)}</span></th>" for piece in alignment["source"])
    rows = []
    for piece, weights in zip(alignment["target"], alignment["weights"], strict=True):
        cells = "".join(
            f'<td class="shade-{min(round(float(weight) * _SHADES), _SHADES)}" title="{weight:.2f}"></td>'
            for weight in weights
        )
        rows.append(f"<tr><th>{_shown(piece)}</th>{cells}</tr>")
    return f'<table class="heatmap"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def draw_words(explanation: Explanation) -> str:
    """Return HTML for a text, its words coloured by how much they speak for the label, or against it.

    The strongest has the strongest colour; what each weighs is written on it, to be seen under a pointer.
    """
    texts = (explanation.text,) if isinstance(explanation.text, str) else explanation.text
    weights = [float(weight) for weight in explanation.weights]
    strongest = max(map(abs, weights), default=0) or 1
    drawn: list[list[str]] = [[] for _ in texts]
    ends = [0] * len(texts)
    for word, weight in zip(explanation.words, weights, strict=True):
        shade = round(abs(weight) / strongest * _SHADES)
        kind = "against" if weight < 0 else "shade"
        drawn[word.part].append(
            _shown_between(texts[word.part][ends[word.part] : word.start])
            + f'<span class="{kind}-{shade}" title="{weight:+.3g}">{_shown(word.text)}</span>'
        )
        ends[word.part] = word.end
    rest = [
        f'<span class="unread">{_shown_between(text[end:])}</span>' if text[end:].strip() else ""
        for text, end in zip(texts, ends, strict=True)
    ]
    parts = "".join(f"<p>{''.join(words)}{left}</p>" for words, left in zip(drawn, rest, strict=True))
    legend = "" if min(weights, default=0) >= 0 else _LEGEND
    return f'<div class="weighed">{parts}{legend}</div>'


def _shown_between(text: str) -> str:
    """Return what is between two words, or behind the last."""
    return html.escape(re.sub(r"\s+", " ", text))


def _shown(piece: str) -> str:
    """Return a token's text, without lines' ends of its own: one would end the table."""
    return html.escape(" ".join(piece.split()))
