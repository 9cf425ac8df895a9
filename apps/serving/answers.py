"""Answers as bytes: JSON with arrays in it, and events of an answer that grows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import orjson
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from kzoo.apps.serving.state import Service
from kzoo.errors import KzooError


class Json(Response):
    """JSON of anything that has numpy's arrays and numbers in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the JSON."""
        return to_json(content)


def to_json(content: Any) -> bytes:
    """Return JSON; arrays become lists, and what is no number becomes null."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY, default=_listed)


def _listed(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array that is not in one piece
        return value.tolist()
    raise TypeError(f"JSON has no {type(value).__name__}")


class Events(StreamingResponse):
    """Texts as they grow, as server-sent events.

    Each event `text` has the `index` of the input and its `text` so far; `done` ends the stream, with the final
    `texts`; `error` ends one that failed, with the `error`.

    Args:
        service: gives a place for it, and takes it back.
        writers: for each input what yields its text so far, again and again.
        deadline: when it has to be over, on the monotonic clock.

    Raises:
        FullError: too many are being written.
    """

    def __init__(self, service: Service, writers: Sequence[Callable[[], Iterator[str]]], deadline: float):
        service.begin_stream()
        self._service = service
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(_events(writers, deadline), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, as ASGI has it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.end_stream()


async def _events(writers: Sequence[Callable[[], Iterator[str]]], deadline: float) -> AsyncIterator[bytes]:
    texts = [""] * len(writers)
    try:
        for index, write in enumerate(writers):
            async for text in iterate_in_threadpool(write()):
                texts[index] = text
                yield _event("text", {"index": index, "text": text})
                if time.monotonic() > deadline:
                    yield _event("error", {"error": "This took too long. Send less at a time."})
                    return
    except KzooError as error:
        yield _event("error", {"error": str(error)})
        return
    yield _event("done", {"texts": texts})


def _event(name: str, content: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + to_json(content) + b"\n\n"
