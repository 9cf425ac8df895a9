"""The command `serve`."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Annotated, Literal

import typer

from kzoo.apps.serving.limits import Limits
from kzoo.errors import KzooError

_LIMITS = "Limits"
_WHO = "Who may ask"
_RAY = "With --engine ray"


def serve(
    bundles: Annotated[
        list[pathlib.Path] | None, typer.Argument(help="Bundles, or folders that hold some.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 8000,
    gallery: Annotated[bool, typer.Option(help="Show the pages beside the API.")] = True,
    access_log: Annotated[
        bool, typer.Option(help="Log a line of JSON for each request, without its texts.")
    ] = True,
    telemetry: Annotated[
        bool,
        typer.Option(
            "--telemetry",
            help="Send OpenTelemetry's spans, without texts, to where its OTEL_EXPORTER_OTLP_ENDPOINT says.",
        ),
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="KZOO_API_KEY",
            help="What requests must bring; better as the variable, which other users do not see. No pages then.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name that requests may call this server by.", rich_help_panel=_WHO),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page elsewhere that may ask: https://example.org.", rich_help_panel=_WHO),
    ] = None,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Bytes of a request.", rich_help_panel=_LIMITS)
    ] = Limits.max_bytes,
    max_items: Annotated[
        int, typer.Option(min=1, help="Texts or images of a request.", rich_help_panel=_LIMITS)
    ] = Limits.max_items,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a text.", rich_help_panel=_LIMITS)
    ] = Limits.max_tokens,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Items that wait for a bundle; then 429.", rich_help_panel=_LIMITS)
    ] = Limits.max_queue,
    max_streams: Annotated[
        int, typer.Option(min=1, help="Answers that grow at once; then 429.", rich_help_panel=_LIMITS)
    ] = Limits.max_streams,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Connections; then 503.", rich_help_panel=_LIMITS)
    ] = Limits.max_connections,
    deadline: Annotated[
        float, typer.Option(help="Seconds until a request is given up with 504.", rich_help_panel=_LIMITS)
    ] = Limits.deadline,
    read_timeout: Annotated[
        float, typer.Option(help="Seconds for a request to come in, else 408.", rich_help_panel=_LIMITS)
    ] = Limits.read_timeout,
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that run together.", rich_help_panel=_LIMITS)
    ] = Limits.batch_tokens,
    batch_items: Annotated[
        int, typer.Option(min=1, help="Items that run together.", rich_help_panel=_LIMITS)
    ] = Limits.batch_items,
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, help="Longest wait of a busy bundle to fill a batch.", rich_help_panel=_LIMITS),
    ] = Limits.max_wait_ms,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This process, or replicas of it on a Ray cluster, which have no pages."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="Ray cluster that this machine is part of, host:port; else one is started here, for this server.",
            rich_help_panel=_RAY,
        ),
    ] = None,
    min_replicas: Annotated[
        int, typer.Option(min=1, help="Replicas that are always there.", rich_help_panel=_RAY)
    ] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most replicas; by default what the cluster has cores for.", rich_help_panel=_RAY
        ),
    ] = None,
    replica_requests: Annotated[
        float, typer.Option(help="Requests of a replica; with more another is started.", rich_help_panel=_RAY)
    ] = 16.0,
    replica_threads: Annotated[
        int, typer.Option(min=1, help="Threads of a replica.", rich_help_panel=_RAY)
    ] = 1,
) -> None:
    """Serve bundles over HTTP, with their pages."""
    from kzoo import apps

    limits = Limits(
        max_bytes=max_bytes,
        max_items=max_items,
        max_tokens=max_tokens,
        max_queue=max_queue,
        max_streams=max_streams,
        max_connections=max_connections,
        deadline=deadline,
        read_timeout=read_timeout,
        batch_tokens=batch_tokens,
        batch_items=batch_items,
        max_wait_ms=max_wait_ms,
    )
    if engine == "ray":
        if telemetry:
            raise KzooError("--telemetry is for --engine local.")
        with apps.ray_server(
            apps.find_bundles(bundles),
            host=host,
            port=port,
            replicas=apps.Replicas(min_replicas, max_replicas, replica_requests, replica_threads),
            address=address,
            limits=limits,
            api_key=api_key,
            allowed_hosts=allow_host or [],
            cors_origins=cors_origin or [],
            access_log=access_log,
        ) as server:
            server.run()
        return
    apps.serve(
        apps.find_bundles(bundles),
        host=host,
        port=port,
        gallery=gallery and importlib.util.find_spec("gradio") is not None,
        limits=limits,
        api_key=api_key,
        allowed_hosts=allow_host or [],
        cors_origins=cors_origin or [],
        access_log=access_log,
        telemetry=telemetry,
    )
