"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from kzoo.client import calls
from kzoo.client.answers import EventReader, Settings, explained, import_httpx, read_answer, refusal
from kzoo.client.calls import Call, Result, Text

if TYPE_CHECKING:
    import httpx


class AsyncClient:
    """A client for asyncio; its arguments, methods and errors are those of `Client`, to be awaited."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
    ):
        self._settings = Settings(url, api_key, timeout, retries)
        self._http: httpx.AsyncClient = import_httpx().AsyncClient(**self._settings.options)

    async def models(self) -> dict[str, str]:
        """See `Client`."""
        return await self._do(calls.models())

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, dimensions: int | None = None
    ) -> np.ndarray:
        """See `Client`."""
        return await self._do(calls.embed(texts, model, dimensions))

    async def classify(
        self, inputs: Sequence[Text], *, model: str | None = None, **options: Any
    ) -> list[Any]:
        """See `Client`."""
        return await self._do(calls.results("/classify", inputs, model, options))

    async def translate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """See `Client`."""
        return await self._do(calls.results("/translate", texts, model, options))

    async def generate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """See `Client`."""
        return await self._do(calls.results("/generate", texts, model, options))

    async def similarity(self, pairs: Sequence[tuple[str, str]], *, model: str | None = None) -> list[float]:
        """See `Client`."""
        return await self._do(calls.similarity(pairs, model))

    async def tokenize(self, inputs: Sequence[Text], *, model: str | None = None) -> list[list[str]]:
        """See `Client`."""
        return await self._do(calls.tokenize(inputs, model))

    async def stream(
        self, path: Literal["/translate", "/generate"], text: str, **options: Any
    ) -> AsyncIterator[str]:
        """See `Client`."""
        with explained():
            async with self._http.stream("POST", path, json=calls.stream_body(text, options)) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise refusal(answer)
                reader = EventReader()
                async for line in answer.aiter_lines():
                    if (grown := reader.add(line)) is not None:
                        yield grown
                reader.check()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _do(self, call: Call[Result]) -> Result:
        tried = 0
        while True:
            answer = None  # a connection that is lost leaves it so
            with explained(self._settings.retries > tried):
                answer = await self._http.request(call.method, call.path, json=call.body)
            pause = None if answer is not None and answer.is_success else self._settings.pause(tried, answer)
            if pause is None:
                return read_answer(call, answer)
            await asyncio.sleep(pause)
            tried += 1
