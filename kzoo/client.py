"""Ask a service of `kzoo serve` from another program, with numpy and httpx alone.

with Client("http://127.0.0.1:8000") as client:
    vectors = client.embed(["A dog runs.", "A cat sleeps."])
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError

if TYPE_CHECKING:
    import httpx

Text = str | tuple[str, str]
Result = TypeVar("Result")

_AGAIN = (429, 503)
_FIRST_PAUSE = 0.1  # seconds; doubled each time
_LONGEST_PAUSE = 10.0


class ServiceError(KzooError):
    """The service refused a request or failed on it.

    Attributes:
        status: of the answer; None if there was none.
        request_id: under which the service's log knows the request; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None, request_id: str | None = None):
        super().__init__(message)
        self.status = status
        self.request_id = request_id


@dataclass(frozen=True)
class _Call(Generic[Result]):
    """A request, and how its answer is read."""

    path: str
    body: dict[str, Any] | None
    read: Callable[[dict[str, Any]], Result]


class _Settings:
    """What both clients know."""

    def __init__(self, url: str, api_key: str | None, timeout: float, retries: int):
        if not timeout > 0 or timeout == float("inf"):
            raise KzooError(f"timeout is {timeout}; give seconds above 0 that come to an end.")
        if not url.startswith(("http://", "https://")):
            raise KzooError(f"'{url}' is no address of a service; it begins with http:// or https://.")
        if retries < 0:
            raise KzooError(f"retries is {retries}; it must be at least 0.")
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.options: dict[str, Any] = {"base_url": url, "timeout": timeout, "headers": headers}
        self.retries = retries

    def pause(self, tried: int, answer: httpx.Response | None) -> float | None:
        """Return how many seconds to wait before a request is sent again, or None if it is not."""
        if tried >= self.retries or (answer is not None and answer.status_code not in _AGAIN):
            return None
        # Of many that were refused at once not all come back at once.
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tried) * random.uniform(0.5, 1.0)
        asked = "" if answer is None else answer.headers.get("retry-after", "")
        return max(pause, min(float(asked), _LONGEST_PAUSE)) if asked.isdecimal() else pause


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
        self._settings = _Settings(url, api_key, timeout, retries)
        self._http: httpx.Client = _httpx().Client(**self._settings.options)

    def models(self) -> dict[str, str]:
        """Return the tasks of the service's models, by name."""
        return self._do(_models())

    def embed(
        self, texts: Sequence[str], *, model: str | None = None, dimensions: int | None = None
    ) -> np.ndarray:
        """Return a vector for each text, float32 (texts, dim); the first `dimensions` numbers scaled to length 1."""
        return self._do(_embed(texts, model, dimensions))

    def classify(self, inputs: Sequence[Text], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return what a model says of each text or pair; options are `top_k` and `threshold`."""
        return self._do(_results("/classify", inputs, model, options))

    def translate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return the translation of each text; options are those of `POST /translate`."""
        return self._do(_results("/translate", texts, model, options))

    def generate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """Return what follows each text; options are those of `POST /generate`."""
        return self._do(_results("/generate", texts, model, options))

    def similarity(self, pairs: Sequence[tuple[str, str]], *, model: str | None = None) -> list[float]:
        """Return how alike the texts of each pair are, from -1 to 1."""
        return self._do(_similarity(pairs, model))

    def tokenize(self, inputs: Sequence[Text], *, model: str | None = None) -> list[list[str]]:
        """Return the tokens of each text."""
        return self._do(_tokenize(inputs, model))

    def stream(self, path: Literal["/translate", "/generate"], text: str, **options: Any) -> Iterator[str]:
        """Yield a translation or a continuation as it grows: each time all of it so far.

        Raises:
            ServiceError: if the service refuses, or ends before the text does.
        """
        with _said(), self._http.stream("POST", path, json=_stream_body(text, options)) as answer:
            if answer.status_code != 200:
                answer.read()
                raise _refusal(answer)
            reader = _EventReader()
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

    def _do(self, call: _Call[Result]) -> Result:
        tried = 0
        while True:
            answer = None  # a connection that is lost leaves it so
            with _said(self._settings.retries > tried):
                answer = self._http.request(_method(call), call.path, json=call.body)
            pause = None if answer is not None and answer.is_success else self._settings.pause(tried, answer)
            if pause is None:
                return _content(call, answer)
            time.sleep(pause)
            tried += 1


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
        self._settings = _Settings(url, api_key, timeout, retries)
        self._http: httpx.AsyncClient = _httpx().AsyncClient(**self._settings.options)

    async def models(self) -> dict[str, str]:
        """See `Client`."""
        return await self._do(_models())

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, dimensions: int | None = None
    ) -> np.ndarray:
        """See `Client`."""
        return await self._do(_embed(texts, model, dimensions))

    async def classify(
        self, inputs: Sequence[Text], *, model: str | None = None, **options: Any
    ) -> list[Any]:
        """See `Client`."""
        return await self._do(_results("/classify", inputs, model, options))

    async def translate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """See `Client`."""
        return await self._do(_results("/translate", texts, model, options))

    async def generate(self, texts: Sequence[str], *, model: str | None = None, **options: Any) -> list[Any]:
        """See `Client`."""
        return await self._do(_results("/generate", texts, model, options))

    async def similarity(self, pairs: Sequence[tuple[str, str]], *, model: str | None = None) -> list[float]:
        """See `Client`."""
        return await self._do(_similarity(pairs, model))

    async def tokenize(self, inputs: Sequence[Text], *, model: str | None = None) -> list[list[str]]:
        """See `Client`."""
        return await self._do(_tokenize(inputs, model))

    async def stream(
        self, path: Literal["/translate", "/generate"], text: str, **options: Any
    ) -> AsyncIterator[str]:
        """See `Client`."""
        with _said():
            async with self._http.stream("POST", path, json=_stream_body(text, options)) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _refusal(answer)
                reader = _EventReader()
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

    async def _do(self, call: _Call[Result]) -> Result:
        tried = 0
        while True:
            answer = None  # a connection that is lost leaves it so
            with _said(self._settings.retries > tried):
                answer = await self._http.request(_method(call), call.path, json=call.body)
            pause = None if answer is not None and answer.is_success else self._settings.pause(tried, answer)
            if pause is None:
                return _content(call, answer)
            await asyncio.sleep(pause)
            tried += 1


class BertClient:
    """bert-as-service's client, for those who move over: `encode`, `encode_async` and `status`.

    Args:
        ip: host of the service.
        port: its port, to which both requests and answers go.
        output_fmt: whether `encode` gives an array or lists.
        timeout: milliseconds to wait for an answer.
        model: which of the service's encoders to ask; may be left out where there is one.
        api_key: the service's key, if it has one.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 8000,
        *,
        output_fmt: Literal["ndarray", "list"] = "ndarray",
        timeout: float = 60_000,
        model: str | None = None,
        api_key: str | None = None,
    ):
        self._client = Client(f"http://{ip}:{port}", api_key=api_key, timeout=timeout / 1000)
        self._lists = output_fmt == "list"
        self._model = model

    def encode(self, texts: Sequence[str] | Sequence[Sequence[str]], is_tokenized: bool = False) -> Any:
        """Return a vector for each text, float32 (texts, dim), or lists of numbers.

        Args:
            texts: texts, in which ` ||| ` parts the two of a pair; or lists of tokens.
            is_tokenized: whether they are lists of tokens.

        Raises:
            ServiceError: the service refuses.
        """
        if isinstance(texts, str):
            raise KzooError("encode takes a list of texts; put the one text in a list.")
        body = {"texts": list(texts), "is_tokenized": is_tokenized, "model": self._model}
        call = _Call("/encode", _given(body), lambda answer: answer["result"])
        vectors = self._client._do(call)
        return vectors if self._lists else np.array(vectors, np.float32)

    def encode_async(
        self,
        batch_generator: Iterable[Sequence[str]],
        max_num_batch: int | None = None,
        is_tokenized: bool = False,
    ) -> Iterator[Any]:
        """Yield the vectors of each batch of texts, in order; the next is asked for while one is worked with.

        Args:
            batch_generator: lists of texts.
            max_num_batch: most batches; all if None.
            is_tokenized: as for `encode`.
        """
        with ThreadPoolExecutor(1) as pool:
            coming = None
            for batch in itertools.islice(batch_generator, max_num_batch):
                following = pool.submit(self.encode, batch, is_tokenized)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    @property
    def status(self) -> dict[str, Any]:
        """What the service knows of this client."""
        return self._client._do(_Call("/status/client", None, dict))

    @property
    def server_status(self) -> dict[str, Any]:
        """What the service says of itself."""
        return self._client._do(_Call("/status/server", None, dict))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _EventReader:
    """Reads server-sent events line by line."""

    def __init__(self) -> None:
        self._name = ""
        self._done = False

    def add(self, line: str) -> str | None:
        """Return the text so far, if this line brings one."""
        if line.startswith("event: "):
            self._name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            content = json.loads(line.removeprefix("data: "))
            if self._name == "error":
                raise ServiceError(content["error"], 200)
            if self._name == "text":
                return content["text"]
            self._done = True
        return None

    def check(self) -> None:
        """Refuse a stream that was cut off."""
        if not self._done:
            raise ServiceError("The service ended before the text did.")


def _models() -> _Call[dict[str, str]]:
    return _Call("/v1/models", None, lambda answer: {each["id"]: each["task"] for each in answer["data"]})


def _embed(texts: Sequence[str], model: str | None, dimensions: int | None) -> _Call[np.ndarray]:
    if isinstance(texts, str):
        raise KzooError("embed takes a list of texts; put the one text in a list.")
    body = {"input": list(texts), "model": model, "dimensions": dimensions, "encoding_format": "base64"}

    def read(answer: dict[str, Any]) -> np.ndarray:
        vectors = [base64.b64decode(entry["embedding"]) for entry in answer["data"]]
        return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)

    return _Call("/v1/embeddings", _given(body), read)


def _results(
    path: str, inputs: Sequence[Text], model: str | None, options: dict[str, Any]
) -> _Call[list[Any]]:
    body = {"inputs": _listed(inputs), "model": model, **options}
    return _Call(path, _given(body), lambda answer: answer["results"])


def _similarity(pairs: Sequence[tuple[str, str]], model: str | None) -> _Call[list[float]]:
    body = {"pairs": _listed(pairs), "model": model}
    return _Call("/similarity", _given(body), lambda answer: answer["scores"])


def _tokenize(inputs: Sequence[Text], model: str | None) -> _Call[list[list[str]]]:
    body = {"inputs": _listed(inputs), "model": model}
    return _Call("/tokenize", _given(body), lambda answer: answer["tokens"])


def _listed(inputs: Sequence[Any]) -> list[Any]:
    if isinstance(inputs, str):
        raise KzooError("Give a list of texts; put the one text in a list.")
    return list(inputs)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _stream_body(text: str, options: dict[str, Any]) -> dict[str, Any]:
    return _given({"inputs": text, "stream": True, **options})


def _method(call: _Call[Any]) -> str:
    return "GET" if call.body is None else "POST"


@contextlib.contextmanager
def _said(again: bool = False) -> Iterator[None]:
    """Say what is wrong with the connection; nothing where the request can be sent `again`."""
    httpx = _httpx()
    try:
        yield
    except httpx.TimeoutException:
        raise ServiceError("The service did not answer in time.") from None
    except httpx.TransportError as error:
        if not again:
            raise ServiceError(f"The service cannot be reached: {error}.") from None


def _content(call: _Call[Result], answer: httpx.Response | None) -> Result:
    if answer is None or not answer.is_success:
        raise _refusal(answer)
    return call.read(answer.json())


def _refusal(answer: httpx.Response | None) -> ServiceError:
    if answer is None:
        return ServiceError("The service cannot be reached.")
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = f"The service answered with status {answer.status_code}."
    return ServiceError(said, answer.status_code, answer.headers.get("x-request-id"))


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise MissingDependencyError(
            "kzoo.client needs httpx, which is not installed: pip install 'kzoo[client]'"
        ) from None
    return httpx
