"""ASGI middleware: how much may come in, and a wall around Gradio so that its pages work offline."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What the pages fetch. Gradio has more: a proxy, a history, calls by name, an editor; some of it reaches out.
_USED_BY_PAGES = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/(assets|static)/.+"
    r"|/gradio_api/(queue/(join|data)|run/predict|upload|upload_progress|cancel|reset|app_id|startup-events|heartbeat/\w+|file=.+)"
)
_FILE_ROUTE = "/gradio_api/file="
_CALL_ROUTES = ("/gradio_api/queue/join", "/gradio_api/run/predict")
_ANSWERS_ROUTE = "/gradio_api/queue/data"
_LOST = b'data: {"msg": "unexpected_error", "message": "", "session_not_found": true, "success": false}\n\n'
_CALL_BYTES = 1_000_000  # of text and file names; files themselves are uploads
MAX_BYTES = 16_000_000  # of a request, unless its server says otherwise
_DISCARDED = 64_000_000
# Gradio's page names outside pictures and addresses for link previews.
_OUTSIDE_META = re.compile(rb'<meta\b[^>]*\bcontent="https?://[^"]*"[^>]*>\s*')
# The browser itself refuses what any script might still ask of another host.
_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class BodyLimit:
    """Answers 413 to a request whose body is larger than `max_bytes`, however its size was declared.

    One whose body is not there after `timeout` seconds gets 408; None waits for any time.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float | None = None):
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout):
                body = await _read_body(scope, receive, self._max_bytes)
        except TimeoutError:
            message = f"The request did not come in within {self._timeout:g} s."
            await JSONResponse({"error": message}, 408, headers={"connection": "close"})(scope, receive, send)
            return
        if body is None:
            await _too_large(self._max_bytes)(scope, receive, send)
        else:
            await self._app(scope, _replay(body, receive), send)


class GalleryGuard:
    """Lets through only what the pages use, and keeps them from other hosts and from files of this one.

    Args:
        app: Gradio's application.
        uploads: the only folder whose files a request may name. A mounted Gradio would read any file of this
            machine that a request names, and fetch any address.
    """

    def __init__(self, app: ASGIApp, uploads: Path):
        self._app = app
        self._uploads = uploads.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        allowed = _USED_BY_PAGES.fullmatch(path) is not None
        if path.startswith(_FILE_ROUTE):
            allowed = self._is_upload(path.removeprefix(_FILE_ROUTE))
        elif path in _CALL_ROUTES:
            body = await _read_body(scope, receive, _CALL_BYTES)
            if body is None:
                await _too_large(_CALL_BYTES)(scope, receive, send)
                return
            allowed = all(map(self._is_upload, _files_named_in(body)))
            receive = _replay(body, receive)
        if not allowed:
            await JSONResponse({"error": f"Not served here: {path}"}, 404)(scope, receive, send)
            return
        if path == "/":
            # Uncompressed, so that the page can be read and changed below.
            headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            # Without what a link says, which the page's own script reads: Gradio fails at some words in it.
            scope = {**scope, "headers": headers, "query_string": b""}
        if path == _ANSWERS_ROUTE:
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, _PageSender(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = _AnswerSender(_PageSender(send))
        try:
            await self._app(scope, receive, answers)
        finally:
            await answers.close()

    def _is_upload(self, name: Any) -> bool:
        return isinstance(name, str) and Path(name).resolve().is_relative_to(self._uploads)


class _AnswerSender:
    """Passes a stream of answers on, and tells the page that the server is gone if it ends before its end.

    A page that is told so says it, waits for the server to come back, and starts anew.
    """

    def __init__(self, send: Send):
        self._send = send
        self._open = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._open = message["status"] == 200
        elif self._open:
            body = message.get("body", b"")
            if b'"close_stream"' in body:
                self._open = False
            elif b'"unexpected_error"' in body or not message.get("more_body", False):
                await self.close()
                return
        await self._send(message)

    async def close(self) -> None:
        """Tell the page, if its answers did not come to their end."""
        if self._open:
            self._open = False
            await self._send({"type": "http.response.body", "body": _LOST, "more_body": False})


class _PageSender:
    """Adds the headers to every answer, and takes outside addresses out of HTML."""

    def __init__(self, send: Send):
        self._send = send
        self._held: Message | None = None
        self._html = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_PAGE_HEADERS)
            if headers.get("content-type", "").startswith("text/html"):
                self._held = message
                return
        elif self._held is not None:
            self._html += message.get("body", b"")
            if message.get("more_body", False):
                return
            html = _OUTSIDE_META.sub(b"", self._html)
            MutableHeaders(scope=self._held)["content-length"] = str(len(html))
            await self._send(self._held)
            self._held = None
            message = {"type": "http.response.body", "body": html}
        await self._send(message)


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes | None:
    """Return the request's body, or None if it is larger than `max_bytes`.

    Up to `_DISCARDED` bytes too many are read and dropped: a client that is still sending when the connection
    is closed sees a broken connection and not the answer.
    """
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes + _DISCARDED:
        return None
    pieces: list[bytes] = []
    size = 0
    more = True
    while more and size <= max_bytes + _DISCARDED:
        message = await receive()
        piece = message.get("body", b"")
        size += len(piece)
        if size <= max_bytes:
            pieces.append(piece)
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(pieces) if size <= max_bytes else None


def _too_large(max_bytes: int) -> JSONResponse:
    message = f"The request is larger than {max_bytes:,} bytes; send fewer or smaller inputs."
    return JSONResponse({"error": message}, 413, headers={"connection": "close"})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application a body that has been read already, then what follows it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _files_named_in(body: bytes) -> Iterator[Any]:
    """Yield every `path` in a call's JSON, and None, which is no file, for what cannot be read as JSON."""
    try:
        pending = [json.loads(body)]
    except (ValueError, RecursionError):
        yield None
        return
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield value["path"]
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
