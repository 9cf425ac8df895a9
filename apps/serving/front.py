"""The service's front door, as ASGI middleware: who may come in, what is written down, and when it closes."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import traceback
import uuid
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kzoo.apps.serving.state import NOTE, GoneError, Note, Service
from kzoo.apps.serving.telemetry import Spans

LOG = logging.getLogger("kzoo.service")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WITHOUT_KEY = ("/health", "/ready")
_GONE = 499  # nobody reads it; for the log
REASONS = {
    401: "key",
    408: "slow",
    413: "size",
    421: "host",
    422: "input",
    429: "full",
    503: "stopping",
    504: "deadline",
}


class Front:
    """Gives each request an id, notes and logs how it was answered, and closes connections before the server stops.

    A log line is a JSON object without anything that the client wrote but the request's id; a span has no more.
    """

    def __init__(self, app: ASGIApp, service: Service, log: bool = True, spans: Spans | None = None):
        self._app = app
        self._service = service
        self._log = log
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, as ASGI has it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        note = Note(given if _ID.fullmatch(given) else uuid.uuid4().hex, time.monotonic())
        scope[NOTE] = note
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(message, note)
            async with asyncio.timeout(self._service.limits.read_timeout):
                await send(message)

        try:
            await self._app(scope, receive, answer)
        except GoneError:
            status = _GONE
        except TimeoutError:
            status = status or 408
        except Exception as error:
            log_bug(note.id, error)
            if status == 0:
                await JSONResponse({"error": "The server failed on this request; its log says why."}, 500)(
                    scope, receive, answer
                )
        finally:
            self._finish(scope, note, status)

    def _add_headers(self, message: Message, note: Note) -> None:
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = note.id
        if note.stages:
            write = time.monotonic() - note.arrived - sum(note.stages.values())
            stages = {**note.stages, "write": max(0.0, write)}
            headers["server-timing"] = ", ".join(
                f"{name};dur={1000 * seconds:.2f}" for name, seconds in stages.items()
            )
        if self._service.stopping:
            headers["connection"] = "close"

    def _finish(self, scope: Scope, note: Note, status: int) -> None:
        # Templates, not paths: somebody may have written a text into a path.
        route = getattr(scope.get("route"), "path", None)
        if route is None and status < 400:
            return
        seconds = time.monotonic() - note.arrived
        self._service.metrics.answered(route or "none", status, seconds)
        if status in REASONS:
            self._service.metrics.refused(REASONS[status])
        if self._spans is not None:
            self._spans.record(scope, note, route, status)
        if self._log:
            line = {
                "event": "request",
                "id": note.id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 2),
                "model": note.model,
                "items": note.items,
                "tokens": note.tokens,
            }
            LOG.info(json.dumps(line))


def log_bug(id: str, error: Exception) -> None:
    """Log where something failed that nobody expected to."""
    # Not the error's own message, which may quote what the client sent.
    where = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    LOG.error(json.dumps({"event": "bug", "id": id, "error": type(error).__name__, "where": where}))


class Guard:
    """Refuses requests without the key, and those that call the server by a name that is not its own.

    A web page can have a browser send requests to this machine under a name of its own (DNS rebinding); the name
    gives it away.

    Args:
        app: what is guarded.
        key: what requests must bring as `Authorization: Bearer KEY` or `X-API-Key`; all but `/health` and `/ready`.
        hosts: names that the server is called by; None for any.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Sequence[str] | None):
        self._app = app
        self._key = None if key is None else key.encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, as ASGI has it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
                problem = "This server does not answer to that name. Allow it with --allow-host."
                await JSONResponse({"error": problem}, 421)(scope, receive, send)
                return
            if self._key is not None and scope["path"] not in _WITHOUT_KEY and not self._has_key(headers):
                problem = "The API key is missing or wrong; send it as 'Authorization: Bearer KEY'."
                answer = JSONResponse({"error": problem}, 401, headers={"www-authenticate": "Bearer"})
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = headers.get("x-api-key", "")
        assert self._key is not None
        return hmac.compare_digest(given.strip().encode("latin-1"), self._key)


def _host_name(host: str) -> str:
    """Return a Host header without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
