"""An HTTP service over bundles, with the gallery on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from kzoo import __version__
from kzoo.apps.guard import BodyLimit
from kzoo.apps.server import Server
from kzoo.apps.serving.front import LOG, LOOPBACK, Front, Guard
from kzoo.apps.serving.limits import Limits
from kzoo.apps.serving.pages import LatePages
from kzoo.apps.serving.routes_state import state_routes
from kzoo.apps.serving.routes_tasks import task_routes
from kzoo.apps.serving.routes_vectors import vector_routes
from kzoo.apps.serving.scheduler import ClosedError, ExpiredError, FullError
from kzoo.apps.serving.schemas import Problem
from kzoo.apps.serving.state import Service, UnknownModelError
from kzoo.apps.serving.telemetry import Spans, export_spans
from kzoo.apps.shelf import find_bundles, open_bundles
from kzoo.errors import BundleError, KzooError, MissingDependencyError
from kzoo.runtime import TruncationWarning

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from kzoo.runtime import Pipeline

_GRACE = 5.0  # seconds beyond the deadline, to send what was computed
_UNREADABLE = "The body cannot be read; send JSON in UTF-8, or a form where one is asked for."
_PROBLEMS = {
    400: "Neither JSON nor a form",
    401: "The API key is missing or wrong",
    404: "No such model",
    408: "The request did not come in in time",
    413: "Too large",
    421: "The Host header is not one of the server's names",
    422: "Wrong input",
    429: "Too much waits already; Retry-After says when to ask again",
    503: "The server is stopping",
    504: "The deadline was over",
}


def create_app(
    bundles: Sequence[str | os.PathLike[str] | Pipeline],
    *,
    gallery: bool = True,
    limits: Limits | None = None,
    api_key: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    cors_origins: Sequence[str] = (),
    access_log: bool = True,
    telemetry: TracerProvider | None = None,
    example_images: Sequence[str | os.PathLike[str]] = (),
) -> FastAPI:
    """Make the service: an API that `/openapi.json` describes, and the gallery at `/`.

    A bundle that cannot be opened is named by `/health` and `/ready` and, with the reason, on the gallery. The
    application's `state.service` says how it does; the gallery comes a few seconds after the API.

    Args:
        bundles: paths, or pipelines that are loaded already.
        gallery: serve the pages too; needs Gradio. With a key there are none, as a browser has none.
        limits: what bounds requests.
        api_key: what requests must bring as `Authorization: Bearer KEY`, but for `/health` and `/ready`.
        allowed_hosts: names that requests may call the server by; any if None.
        cors_origins: web pages elsewhere that may ask, such as `"https://example.org"`; none by default.
        access_log: log a line for each request, without its texts, to the logger `kzoo.service`.
        telemetry: where OpenTelemetry's spans of requests go, which have no texts either; it is shut down in the end.
        example_images: image files to offer on the gallery's page for images.

    Raises:
        MissingDependencyError: if the gallery is wanted and Gradio is not installed.
        KzooError: if a limit makes no sense.

    Example:
        >>> sorted(create_app([], gallery=False).openapi()["paths"])[:4]
        ['/classify', '/classify/images', '/encode', '/generate']
    """
    limits = limits or Limits()
    shelf = open_bundles(bundles)
    service = Service(shelf, limits)
    gallery = gallery and api_key is None
    if gallery and importlib.util.find_spec("gradio") is None:
        raise MissingDependencyError(
            "The pages need gradio, which is not installed: pip install 'kzoo[apps]'"
        )

    def make_pages() -> FastAPI:
        from kzoo.apps import gallery_app

        return gallery_app(shelf, example_images=example_images, max_bytes=limits.max_bytes, has_api=True)

    pages = LatePages(service, make_pages) if gallery else None
    spans = None if telemetry is None else Spans(telemetry)

    # The documentation pages of FastAPI load scripts from other hosts; /openapi.json stays.
    app = FastAPI(
        title="kzoo",
        version=__version__,
        lifespan=lambda app: _running(service, pages, spans),
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Problem, "description": said} for code, said in _PROBLEMS.items()},
    )
    app.state.service, app.state.pages = service, pages
    app.add_middleware(BodyLimit, max_bytes=limits.max_bytes, timeout=limits.read_timeout)
    app.add_middleware(Guard, key=api_key, hosts=allowed_hosts)
    if cors_origins:
        # Before the key is asked for: a browser asks without it whether it may bring it.
        app.add_middleware(
            CORSMiddleware, allow_origins=list(cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(Front, service=service, log=access_log, spans=spans)
    _add_refusals(app)
    for routes in (state_routes, vector_routes, task_routes):
        app.include_router(routes(service))
    if pages is not None:
        app.mount("/", pages)
    return app


def serve(
    bundles: Sequence[str | os.PathLike[str] | Pipeline] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    gallery: bool = True,
    limits: Limits | None = None,
    api_key: str | None = None,
    allowed_hosts: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    access_log: bool = False,
    telemetry: bool = False,
    block: bool = True,
) -> Server:
    """Run the service of `create_app` on a port.

    When it is told to stop (SIGTERM, Ctrl+C), it answers what it has accepted first.

    Args:
        bundles: paths or pipelines; without it, those that `find_bundles` finds.
        host: address to listen on; the default can be reached from this machine only.
        port: port to listen on, or 0 for any free one.
        gallery: serve the pages too; needs Gradio.
        limits: what bounds requests.
        api_key: see `create_app`.
        allowed_hosts: names besides the machine's own that requests may call the server by. Where it listens on
            loopback others are refused; elsewhere any will do unless some are given.
        cors_origins: see `create_app`.
        access_log: log requests to standard error, without their texts.
        telemetry: send OpenTelemetry's spans of requests, without their texts, to the collector that its own
            variables name, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
        block: serve until Ctrl+C; if false, return at once and serve until the result's `close()`.

    Returns:
        The server; its `url` is the service's address.

    Raises:
        KzooError: if the port is taken, or a limit makes no sense.
        MissingDependencyError: if the gallery is wanted and Gradio is not installed, or telemetry and OpenTelemetry.
    """
    limits = limits or Limits()
    local = host in LOOPBACK
    app = create_app(
        find_bundles() if bundles is None else bundles,
        gallery=gallery,
        limits=limits,
        api_key=api_key,
        allowed_hosts=[*LOOPBACK, host, *allowed_hosts] if local or allowed_hosts else None,
        cors_origins=cors_origins,
        access_log=access_log,
        telemetry=export_spans() if telemetry else None,
    )
    # Each answer says which of its texts were cut.
    warnings.filterwarnings("ignore", category=TruncationWarning)
    _log_to_stderr()
    server = Server(
        app,
        host,
        port,
        max_connections=limits.max_connections,
        grace=limits.deadline + _GRACE,
        on_stop=lambda: stop(app),
    )
    if block:
        server.run()
        return server
    return server.start()


def stop(app: FastAPI) -> None:
    """Have a service of `create_app` tell its clients to go, and end what its pages hold open."""
    app.state.service.stopping = True
    if app.state.pages is not None:
        app.state.pages.stop()


@contextlib.asynccontextmanager
async def _running(service: Service, pages: LatePages | None, spans: Spans | None) -> AsyncIterator[None]:
    """Take requests while the block runs, and answer those that were taken before it ends."""
    for bundle in service.bundles.values():
        bundle.start()
    checks = asyncio.create_task(_check_all(service))
    async with pages.running() if pages is not None else contextlib.nullcontext():
        yield
    checks.cancel()
    for bundle in service.bundles.values():
        await anyio.to_thread.run_sync(bundle.close)
    if spans is not None:
        await anyio.to_thread.run_sync(spans.close)


async def _check_all(service: Service) -> None:
    for bundle in service.bundles.values():
        await anyio.to_thread.run_sync(bundle.check)


def _log_to_stderr() -> None:
    if not LOG.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


def _add_refusals(app: FastAPI) -> None:
    statuses = {UnknownModelError: 404, FullError: 429, ClosedError: 503, ExpiredError: 504, KzooError: 422}

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        status = next(status for kind, status in statuses.items() if isinstance(error, kind))
        headers = {}
        if status in (429, 503):
            headers["retry-after"] = str(getattr(error, "retry_after", 1))
        return JSONResponse({"error": str(error)}, status, headers=headers)

    async def refuse_fields(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'][1:]) or 'body'}: {problem['msg']}"
            for problem in error.errors()
        ]
        return JSONResponse({"error": "; ".join(problems)}, 422)

    async def say_status(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        said = _UNREADABLE if error.status_code == 400 else error.detail
        return JSONResponse({"error": said}, error.status_code, headers=error.headers)

    async def pass_on(request: Request, error: Exception) -> JSONResponse:
        raise error

    app.add_exception_handler(HTTPException, say_status)
    app.add_exception_handler(RequestValidationError, refuse_fields)
    for kind in statuses:
        app.add_exception_handler(kind, refuse)
    # Not the client's doing.
    app.add_exception_handler(BundleError, pass_on)
