"""`kzoo compress`: what smaller forms of a model score, weigh and take."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

from kzoo.commands.loading import import_models
from kzoo.commands.terminal import AsJson, Device, Overrides, errors, print_json
from kzoo.errors import KzooError, did_you_mean


def compress(
    model: Annotated[
        pathlib.Path, typer.Argument(help="A bundle that a run made, a run's directory, or a .keras file.")
    ],
    recipe: Annotated[
        pathlib.Path | None,
        typer.Option(help="The recipe that it was made by, for the test data; recipe.toml beside a bundle."),
    ] = None,
    overrides: Overrides = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option("--dtype", help="A precision, as for `kzoo export`; may be repeated; all unless given."),
    ] = None,
    sparsities: Annotated[
        list[float] | None,
        typer.Option(
            "--sparsity",
            min=0.0,
            max=0.99,
            help="Share of the weights to set to zero; may be repeated; 0.3 and 0.5 unless given, 0 for none.",
        ),
    ] = None,
    fewer_units: Annotated[
        list[float] | None,
        typer.Option(
            min=0.0,
            max=0.99,
            help="Share of the feed-forwards' units to take out; may be repeated; 0.25 unless given, 0 for none.",
        ),
    ] = None,
    beside: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            help="Another bundle for the same task, such as a distilled student's; may be repeated."
        ),
    ] = None,
    output: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where bundles, table and picture go; runs/NAME-compression unless given."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Try a model in other precisions and pruned: accuracy against size and time, with the Pareto front drawn."""
    import_models()
    from kzoo.recipes.compression.compressing import FEWER_UNITS, SPARSITIES
    from kzoo.recipes.compression.compressing import compress as measure
    from kzoo.recipes.compression.origins import find_origin
    from kzoo.recipes.directory import runs_home
    from kzoo.recipes.environment import describe_environment
    from kzoo.recipes.schema.sections import DTYPES

    for dtype in dtypes or ():
        if dtype not in DTYPES:
            raise KzooError(f"Unknown dtype '{dtype}'.{did_you_mean(dtype, DTYPES)}")
    given: list[tuple[str, object]] = [("", model), ("--recipe", recipe)]
    given += [("--set", each) for each in overrides or ()]
    given += [("--dtype", each) for each in dtypes or ()]
    given += [("--sparsity", each) for each in sparsities or ()]
    given += [("--fewer-units", each) for each in fewer_units or ()]
    given += [("--beside", each) for each in beside or ()]
    words = [word for option, value in given if value is not None for word in (option, str(value)) if word]
    environment = describe_environment(shlex.join(["kzoo", "compress", *words]))
    origin = find_origin(model, recipe, overrides or ())
    folder = output or runs_home() / f"{origin.recipe.name}-compression"
    found = measure(
        origin,
        folder,
        dtypes=[*dict.fromkeys(dtypes or DTYPES)],
        sparsities=_shares(sparsities, SPARSITIES),
        fewer_units=_shares(fewer_units, FEWER_UNITS),
        beside=beside or (),
        device=device,
        progress=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    found.report(folder, environment)
    if as_json:
        print_json({**dataclasses.asdict(found), "fronts": found.fronts(), "folder": str(folder)})
        return
    from kzoo.runtime.tables import draw_table

    typer.echo(draw_table(*found.table()))
    typer.echo(f"\n{found.measured_on}; ± is half a 95% confidence interval; times on {found.device}.")
    typer.echo("best by: no other one costs no more and scores no less; which to keep is yours to say.")
    typer.echo(f"table, picture and bundles {folder}")


def _shares(given: list[float] | None, usual: Sequence[float]) -> list[float]:
    return [share for share in dict.fromkeys(usual if given is None else given) if share]
