"""Tables for the terminal: what a graph holds, and how far its outputs are from what they should be."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kzoo.runtime.comparison import Difference, join

# A line below the heads, in characters that every terminal and every pipe takes.
_BOX = Box("\n".join(["    ", "    ", " -- ", *["    "] * 5]) + "\n", ascii=True)


def draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, its first column on the left and the others on the right."""
    table = Table(box=_BOX, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        # Not as strings: brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in row))
    width = sum(max(len(row[place]) for row in [columns, *rows]) + 3 for place in range(len(columns)))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").splitlines())


def draw_sizes(files: Mapping[str, int]) -> str:
    """Return names of files with their sizes, which are given in bytes."""
    return ", ".join(
        f"{name} {size / 1e6:,.1f} MB" if size >= 1e6 else f"{name} {size / 1e3:,.1f} kB"
        for name, size in files.items()
    )


def draw_differences(graphs: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the table of differences, by graph and output; the caches of all layers stand in one line."""
    rows = []
    for role, outputs in graphs.items():
        for name, difference in _abridge(outputs).items():
            share = "" if difference.agreement is None else f"{difference.agreement:.2%}"
            rows.append(
                (
                    f"{role}: {name}" if len(graphs) > 1 else name,
                    f"{difference.absolute:.1e}",
                    f"{difference.relative:.1e}",
                    f"{difference.cosine:.8f}",
                    share,
                )
            )
    return draw_table(("output", "absolute", "relative", "cosine", "same arg-max"), rows)


def _abridge(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    caches = [name for name in differences if name.startswith("present.")]
    rest = {name: difference for name, difference in differences.items() if name not in caches}
    if caches:
        rest[f"present.* ({len(caches)})"] = join([differences[name] for name in caches])
    return rest
