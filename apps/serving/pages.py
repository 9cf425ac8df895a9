"""The pages beside the API: they come when they are ready, and go when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import anyio.to_thread
from fastapi import FastAPI
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kzoo.apps.serving.front import LOG
from kzoo.apps.serving.state import Service

_GRACE = 2.0  # seconds, for what a page has asked
_COMING = HTMLResponse(
    '<!doctype html><meta http-equiv="refresh" content="1"><title>kzoo</title><p>The pages are on their way.</p>',
    503,
    headers={"retry-after": "1"},
)


class LatePages:
    """Stands where the pages will be: Gradio takes longer to import than all bundles to load.

    Args:
        service: told when the pages are there.
        make: makes the pages, from another thread.
    """

    def __init__(self, service: Service, make: Callable[[], FastAPI]):
        self._service = service
        self._make = make
        self._app: ASGIApp | None = None
        self._stopping = asyncio.Event()
        service.pages = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the pages come while the block runs, and be gone after it."""
        task = asyncio.create_task(self._serve())
        try:
            yield
        finally:
            self.stop()
            await task

    def stop(self) -> None:
        """End what pages hold open; called from the server's own thread."""
        self._stopping.set()

    async def _serve(self) -> None:
        try:
            app = await anyio.to_thread.run_sync(self._make)
        except Exception:
            LOG.exception("The pages could not be made; the API goes on without them.")
            return
        async with app.router.lifespan_context(app):
            self._app = app
            self._service.pages = True
            await self._stopping.wait()
            await asyncio.sleep(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            return
        if self._app is None:
            coming = scope["path"] == "/"
            await (_COMING if coming else JSONResponse({"error": "Not Found"}, 404))(scope, receive, send)
            return
        begun = ended = False

        async def note(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        answer = asyncio.ensure_future(self._app(scope, receive, note))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({answer, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({answer}, timeout=_GRACE)
            if answer.done():
                await answer
        finally:
            stopping.cancel()
            answer.cancel()
            # It may have a last word for the page.
            await asyncio.wait({answer}, timeout=_GRACE)
        if begun and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
