"""`kzoo run`: a bundle over whole files, in parts."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sys
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kzoo.commands.prediction import options_of
from kzoo.commands.terminal import AsJson, BundlePath, Device, NumBeams, TopK, errors, print_json
from kzoo.errors import KzooError

_RAY = "With --engine ray"


def run(
    bundle: BundlePath,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILES]...", help="More files, as behind --input *.csv.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="csv, tsv, jsonl, parquet or txt; a pattern, or several times."),
    ] = None,
    output: Annotated[
        pathlib.Path | None, typer.Option(help="Folder of the results; that of a stopped run goes on.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="The texts' column: its name, 'text' unless given, or its number.")
    ] = None,
    text_pair: Annotated[str | None, typer.Option(help="The second texts' column, for pairs.")] = None,
    header: Annotated[
        bool, typer.Option(help="Whether the first row of a csv or tsv names the columns.")
    ] = True,
    delimiter: Annotated[str | None, typer.Option(help="What separates the cells of a csv.")] = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of a file of results.")] = 10_000,
    top_k: TopK = None,
    num_beams: NumBeams = None,
    device: Device = "auto",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or workers on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="Ray cluster that this machine is part of, host:port; without one it is started here, for this run.",
            rich_help_panel=_RAY,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes; by default what the cluster has cores for, or GPUs.", rich_help_panel=_RAY
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each worker; 1 unless given.", rich_help_panel=_RAY)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a bundle over whole files; a run that was stopped goes on."""
    import kzoo
    from kzoo import bulk

    if output is None:
        raise KzooError("Where do the results go? Give --output FOLDER.")
    paths = _files([*(inputs or []), *(more or [])])
    if delimiter is not None and len(delimiter) != 1:
        raise KzooError(f"--delimiter takes one character, and not {delimiter!r}.")
    if engine == "local" and (workers or threads):
        raise KzooError("--workers and --threads are for --engine ray.")
    pipeline = kzoo.load(bundle, device=device)
    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        # Ray says on standard output whose worker died.
        contextlib.redirect_stdout(sys.stderr),
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar,
    ):
        task = bar.add_task("rows", total=None)
        totals = bulk.run(
            pipeline,
            paths,
            output,
            columns=bulk.Columns(text, text_pair, header, delimiter),
            part_rows=part_rows,
            options=options_of(pipeline, top_k=top_k, num_beams=num_beams),
            engine=bulk.RayEngine(address, workers, threads or 1) if engine == "ray" else bulk.LocalEngine(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(dataclasses.asdict(totals))
        return
    for name, count in dataclasses.asdict(totals).items():
        typer.echo(f"{name.replace('_', ' ')} {count:,}")


def _files(given: list[str]) -> list[pathlib.Path]:
    """Return the files that are given, and those that patterns stand for, in order of their names."""
    paths = []
    for each in given:
        path = pathlib.Path(each)
        # A file whose name looks like a pattern is that file.
        if path.is_file() or not any(mark in each for mark in "*?["):
            paths.append(path)
            continue
        found = sorted(pathlib.Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        files = [path for path in found if path.is_file()]
        if not files:
            raise KzooError(f"No file matches '{each}'.")
        paths += files
    return paths
