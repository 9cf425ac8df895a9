"""A table whose cells are the darker the more a translation's token looks at one of its source."""

from __future__ import annotations

import html
from typing import Any

_SHADES = 9  # gallery.css has this many, and none for 0


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


def _shown(piece: str) -> str:
    """Return a token's text, without lines' ends of its own: one would end the table."""
    return html.escape(" ".join(piece.split()))
