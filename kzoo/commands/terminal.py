"""How commands are asked and how they answer."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
BundlePath = Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle.")]
Device = Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="Where to run.")]
NumBeams = Annotated[
    int | None, typer.Option(min=1, help="For texts that are written: how many are kept side by side.")
]
TopK = Annotated[int | None, typer.Option(min=1, help="How many labels to give.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field: --set model.num_layers=6.")
]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False, indent=1))
