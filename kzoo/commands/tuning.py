"""`kzoo tune`: better numbers for a recipe, found by training it again and again."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated

import typer

from kzoo.commands.loading import import_models
from kzoo.commands.terminal import AsJson, Overrides, errors, print_json


def tune(
    search: Annotated[
        pathlib.Path,
        typer.Argument(help="A search's file: the recipe beside it, its fields and their ranges."),
    ],
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Start another search instead of going on with one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search for better numbers of a recipe, on its validation data; a search that was stopped goes on."""
    import_models()
    from kzoo.recipes.tuning.report import table
    from kzoo.recipes.tuning.searching import tune as run

    found = run(
        search,
        overrides=overrides or (),
        fresh=fresh,
        progress=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    from kzoo.runtime.tables import draw_table

    typer.echo(draw_table(*table(found)))
    if found.importances:
        listed = ", ".join(f"{name} {share:.0%}" for name, share in found.importances.items())
        typer.echo(
            f"\nshare of the differences at checkpoint {found.compared_at} that comes from each: {listed}"
        )
    typer.echo(f"\nbest recipe {found.recipe}\n{found.command}")
