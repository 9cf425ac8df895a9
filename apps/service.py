"""A small HTTP service over bundles, with the gallery on the same port."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from kzoo import __version__
from kzoo.apps.guard import MAX_BYTES, BodyLimit
from kzoo.apps.server import Server
from kzoo.apps.shelf import find_bundles, open_bundles
from kzoo.errors import KzooError, did_you_mean

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

MAX_ITEMS = 64
_MAX_RUNNING = 4
_RANKED = frozenset({"classification", "image_classification", "multilabel"})


class PredictRequest(BaseModel):
    """What `POST /predict/NAME` takes: texts, pairs of texts, or base64 image files."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[str | tuple[str, str]] = Field(min_length=1)
    top_k: int | None = Field(default=None, ge=1)


class PredictResponse(BaseModel):
    """What it gives back: a result for each input, in order, and the seconds it took."""

    model: str
    task: str
    results: list[Any]
    seconds: float


class ModelEntry(BaseModel):
    """One model that the service answers for."""

    id: str
    object: str = "model"
    task: str


class ModelList(BaseModel):
    """All models that the service answers for."""

    object: str = "list"
    data: list[ModelEntry]


class Health(BaseModel):
    """Whether the service runs, and how many bundles it could and could not open."""

    status: str = "ok"
    models: int
    failed: list[str]


class UnknownModelError(KzooError):
    """A request for a model that is not served."""


def create_app(
    bundles: Sequence[str | os.PathLike[str] | Pipeline],
    *,
    gallery: bool = True,
    max_bytes: int = MAX_BYTES,
    max_items: int = MAX_ITEMS,
    example_images: Sequence[str | os.PathLike[str]] = (),
) -> FastAPI:
    """Make the service: `GET /health`, `GET /v1/models`, `POST /predict/NAME`, and the gallery at `/`.

    A bundle that cannot be opened is named by `/health` and, with the reason, on the gallery.

    Args:
        bundles: paths, or pipelines that are loaded already.
        gallery: serve the pages too; needs Gradio.
        max_bytes: larger requests get status 413.
        max_items: requests with more inputs get status 422.
        example_images: image files to offer on the gallery's page for images.

    Raises:
        MissingDependencyError: if the gallery is wanted and Gradio is not installed.

    Example:
        >>> [route.path for route in create_app([], gallery=False).routes][-3:]
        ['/health', '/v1/models', '/predict/{name}']
    """
    shelf = open_bundles(bundles)
    pages = None
    if gallery:
        from kzoo.apps import gallery_app

        pages = gallery_app(shelf, example_images=example_images, max_bytes=max_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if pages is not None:
                await stack.enter_async_context(pages.router.lifespan_context(pages))
            yield

    # The documentation pages of FastAPI load scripts from other hosts; /openapi.json stays.
    app = FastAPI(title="kzoo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, max_bytes=max_bytes)
    app.add_exception_handler(HTTPException, _say_status)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    app.add_exception_handler(UnknownModelError, _refuse_model)
    app.add_exception_handler(KzooError, _refuse_input)
    app.add_exception_handler(Exception, _hide_bug)
    # More at once would only share the same cores.
    running = anyio.CapacityLimiter(_MAX_RUNNING)

    @app.get("/health")
    def health() -> Health:
        return Health(models=len(shelf.pipelines), failed=sorted(shelf.failures))

    @app.get("/v1/models")
    def models() -> ModelList:
        entries = [ModelEntry(id=name, task=pipeline.task) for name, pipeline in shelf.pipelines.items()]
        return ModelList(data=entries)

    @app.post("/predict/{name}")
    async def predict(name: str, request: PredictRequest) -> PredictResponse:
        pipeline = shelf.pipelines.get(name)
        if pipeline is None:
            raise UnknownModelError(f"No model '{name}' here.{did_you_mean(name, shelf.pipelines)}")
        if len(request.inputs) > max_items:
            raise KzooError(
                f"inputs has {len(request.inputs)} items; this server takes {max_items} at a time."
            )
        start = time.perf_counter()
        results = await anyio.to_thread.run_sync(_predict, pipeline, request, limiter=running)
        seconds = time.perf_counter() - start
        return PredictResponse(model=name, task=pipeline.task, results=results, seconds=seconds)

    if pages is not None:
        app.mount("/", pages)
    return app


def serve(
    bundles: Sequence[str | os.PathLike[str] | Pipeline] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    gallery: bool = True,
    max_bytes: int = MAX_BYTES,
    max_items: int = MAX_ITEMS,
    block: bool = True,
) -> Server:
    """Run the service of `create_app` on a port.

    Args:
        bundles: paths or pipelines; without it, those that `find_bundles` finds.
        host: address to listen on; the default can be reached from this machine only.
        port: port to listen on, or 0 for any free one.
        gallery: serve the pages too; needs Gradio.
        max_bytes: larger requests get status 413.
        max_items: requests with more inputs get status 422.
        block: serve until Ctrl+C; if false, return at once and serve until the result's `close()`.

    Returns:
        The server; its `url` is the service's address.

    Raises:
        KzooError: if the port is taken.
        MissingDependencyError: if the gallery is wanted and Gradio is not installed.
    """
    found = find_bundles() if bundles is None else bundles
    app = create_app(found, gallery=gallery, max_bytes=max_bytes, max_items=max_items)
    server = Server(app, host, port)
    if block:
        server.run()
        return server
    return server.start()


def _predict(pipeline: Pipeline, request: PredictRequest) -> list[Any]:
    # A string must never reach a pipeline for images as it is: there it would be a path on this machine.
    images = pipeline.manifest.text is None
    inputs = _decode_images(request.inputs) if images else request.inputs
    options: dict[str, Any] = {}
    if request.top_k is not None:
        if pipeline.task not in _RANKED:
            raise KzooError(f"top_k has no meaning for '{pipeline.name}', whose task is {pipeline.task}.")
        options["top_k"] = request.top_k
    return [_plain(result) for result in pipeline(inputs, **options)]


def _decode_images(inputs: Sequence[str | tuple[str, str]]) -> list[bytes]:
    images = []
    for index, item in enumerate(inputs):
        try:
            if not isinstance(item, str):
                raise ValueError("a pair")
            images.append(base64.b64decode(item, validate=True))
        except (ValueError, binascii.Error):
            raise KzooError(
                f"Input {index} is not base64; send the bytes of an image file as base64."
            ) from None
    return images


def _plain(value: Any) -> Any:
    """Turn arrays and numpy numbers into what JSON has."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


async def _say_status(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _refuse_fields(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(part) for part in problem['loc'][1:]) or 'body'}: {problem['msg']}"
        for problem in error.errors()
    ]
    return JSONResponse({"error": "; ".join(problems)}, 422)


async def _refuse_model(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 404)


async def _refuse_input(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 422)


async def _hide_bug(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "The server failed on this request; its log says why."}, 500)
