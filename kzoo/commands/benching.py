"""The commands of `kzoo bench`: how fast something is on this machine, beside what others published."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import platform
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kzoo import __version__
from kzoo.commands.terminal import AsJson, errors, print_json
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.bench import EmbeddingService, Row

bench = typer.Typer(no_args_is_help=True, help="Measure how fast a service is.")

_VARIED = {
    "length": "max_seq_len",
    "batch": "client batch",
    "clients": "clients",
    "max-batch": "max batch",
}


@bench.callback()
def _group() -> None:
    """Measure how fast a service is."""


@bench.command()
def serve(
    url: Annotated[
        str | None, typer.Option(help="A running service; http://127.0.0.1:8000 unless given.")
    ] = None,
    bundle: Annotated[
        pathlib.Path | None, typer.Option(help="A bundle to start a service with, and stop it in the end.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model, where several are for embeddings.")
    ] = None,
    only: Annotated[
        Literal["length", "batch", "clients", "max-batch"] | None, typer.Option(help="One of the tables.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long a row is measured.")] = 5.0,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="KZOO_API_KEY", help="The service's key; better as the variable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a service as bert-as-service was: by length, batch, clients and what runs together."""
    from kzoo import bench as benching

    if url is not None and bundle is not None:
        raise KzooError("Give --url or --bundle, and not both.")
    services: list[dict[str, Any]] = []

    def begin(service: EmbeddingService) -> None:
        services.append(
            {"url": service.url, "model": service.model, "max_length": service.max_length, **service.status}
        )

    rows = benching.measure(
        url or ("http://127.0.0.1:8000" if bundle is None else None),
        bundle,
        tables=[only] if only else benching.TABLES,
        model=model,
        seconds=seconds,
        api_key=api_key,
        begin=begin,
        progress=lambda row: errors.print(_short(row), markup=False, soft_wrap=True),
    )
    about = _about(services[0], seconds)
    if as_json:
        print_json({**about, "rows": [dataclasses.asdict(row) for row in rows]})
        return
    typer.echo(
        f"{about['model']} on {about['device']}, {about['date']}, {about['hardware']}; kzoo {about['kzoo']}, "
        f"service {about['service']}, python {about['python']}; {seconds:g} s a row"
    )
    for table in _VARIED:
        found = [row for row in rows if row.table == table]
        if found:
            typer.echo(f"\n{_drawn(table, found)}")
    typer.echo("\nM40: published for bert-as-service, BERT-base on 1 Tesla M40.")


def _about(service: dict[str, Any], seconds: float) -> dict[str, Any]:
    from kzoo.runtime.machine import describe_processor

    return {
        "model": service["model"],
        "url": service["url"],
        "max_length": service["max_length"],
        "device": service.get("device", {}).get(service["model"], "an unknown device"),
        "limits": service.get("limits", {}),
        "service": service.get("server_version", ""),
        "date": datetime.date.today().isoformat(),
        "hardware": describe_processor(),
        "kzoo": __version__,
        "python": platform.python_version(),
        "seconds": seconds,
    }


def _short(row: Row) -> str:
    found = row.problem if row.rate is None else f"{row.rate:,.0f} sentences/s"
    return f"{_VARIED[row.table]} {row.value}: {found}"


def _drawn(table: str, rows: list[Row]) -> str:
    """Return a table as text, with what could not be measured below it."""
    from kzoo.runtime.tables import draw_table

    each = table == "clients"
    rate = "sentences/s each" if each else "sentences/s"
    heads = [_VARIED[table], rate, "M40", "p50 ms", "p95 ms", "p99 ms", "requests", "sentences each"]
    lines = []
    for row in rows:
        share = row.rate / row.clients if row.rate is not None and each else row.rate
        times = [_number(value) for value in (row.p50, row.p95, row.p99)]
        sizes = [f"{row.requests:,}", f"{row.batch:,}" if row.batch else ""]
        lines.append([f"{row.value:,}", _number(share), f"{row.published:,}", *times, *sizes])
    said = [f"{_VARIED[table]} {row.value}: {row.problem}" for row in rows if row.problem]
    return "\n".join([draw_table(heads, lines), *said])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
