"""The client that waits for its answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from kzoo.client import calls
from kzoo.client.answers import EventReader, Settings, explained, import_httpx, read_answer, refusal
from kzoo.client.calls import Call, Result, Text

if TYPE_CHECKING:
    import httpx


class Client:
    """A client that waits for its answers; safe to use from many threads.

    What is refused for want of room (429, 503), and what is lost with its connection, is asked again after a while, a
    little longer each time; asking twice does no harm.

    Args:
        url: address of the service.
        api_key: its key, if it has one.
        timeout: seconds to wait for a connection, and for an answer.
        retries: how often a request is sent again.

    Raises:
        MissingDependencyError: if httpx is not installed.
        KzooError: if the timeout has no end.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
    ):
        self._settings = Settings(url, api_key, timeout, retries)
        self._http: httpx.Client = import_httpx().Client(**self._settings.options)

    def models(self) -> dict[str, str]:
        """Return the tasks of the service's models, by name."""
        return self._do(calls.models())

    def embed(
        self, texts: Sequence[str], *, model: str | None = None, dimensions: int | None = None
    ) -> np.ndarray:
        """Return a vector for each text, float32 (texts, dim); the first `dimensions` numbers scaled to length 1."""
        return self._do(calls.embed(texts, model, dimensions))

    def classify(self, inputs: Sequence[Text], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return what a model says of each text or pair; options are `top_k` and `threshold`."""
        return self._do(calls.results("/classify", inputs, model, options))

    def translate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return the translation of each text; options are those of `POST /translate`."""
        return self._do(calls.results("/translate", texts, model, options))

    def generate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return what follows each text; options are those of `POST /generate`."""
        return self._do(calls.results("/generate", texts, model, options))

    def similarity(self, pairs: Sequence[tuple[str, str]], *, model: str | None = None) -> list[float]:
        """Return how alike the texts of each pair are, from -1 to 1."""
        return self._do(calls.similarity(pairs, model))

    def tokenize(self, inputs: Sequence[Text], *, model: str | None = None) -> list[list[str]]:
        """Return the tokens of each text."""
        return self._do(calls.tokenize(inputs, model))

    def stream(self, path: Literal["/translate", "/generate"], text: str, **options: Any) -> Iterator[str]:
        """Yield a translation or a continuation as it grows: each time all of it so far.

        Raises:
            ServiceError: if the service refuses, or ends before the text does.
        """
        with explained(), self._http.stream("POST", path, json=calls.stream_body(text, options)) as answer:
            if answer.status_code != 200:
                answer.read()
                raise refusal(answer)
            reader = EventReader()
            for line in answer.iter_lines():
                if (grown := reader.add(line)) is not None:
                    yield grown
            reader.check()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, call: Call[Result]) -> Result:
        tried = 0
        while True:
            answer = None  # a connection that is lost leaves it so
            with explained(self._settings.retries > tried):
                answer = self._http.request(call.method, call.path, json=call.body)
            pause = None if answer is not None and answer.is_success else self._settings.pause(tried, answer)
            if pause is None:
                return read_answer(call, answer)
            time.sleep(pause)
            tried += 1
