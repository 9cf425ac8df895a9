"""The service that is measured: what it says of itself, and requests whose lengths are known."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kzoo.bench.load import Ask, Connection
from kzoo.errors import KzooError, did_you_mean

_WORDS = "the dog runs in the park and a cat sleeps on the old house near the market of the team"
_STARTING = 120.0  # seconds for a service to start and to check its bundles
_BODIES = 8  # different requests of a row, in turn
_SAYS = "Serving at "


class Started(NamedTuple):
    """A service that was started: where it answers, and its process."""

    url: str
    process: int


@contextlib.contextmanager
def started(
    bundle: str | os.PathLike[str], flags: Sequence[object] = (), api_key: str | None = None
) -> Iterator[Started]:
    """Run `kzoo serve` of a bundle on a free port of this machine while the block runs.

    Args:
        bundle: folder of the bundle.
        flags: more of the command's flags and their values.
        api_key: what requests must bring.

    Raises:
        KzooError: the service does not start; says why.
    """
    command = [sys.executable, "-m", "kzoo", "serve", os.fspath(bundle), "--no-gallery", "--port", "0"]
    command += ["--no-access-log", *map(str, flags)]
    environment = {name: value for name, value in os.environ.items() if name != "KZOO_API_KEY"}
    if api_key is not None:
        environment["KZOO_API_KEY"] = api_key
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        late = threading.Timer(_STARTING, process.kill)
        late.start()
        try:
            url = _address(process)
            late.cancel()
            yield Started(url, process.pid)
        finally:
            late.cancel()
            process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        if line.startswith(_SAYS):
            # Nobody else reads what it says from here on, and it must not wait for that.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return line.removeprefix(_SAYS).strip()
        said = line.strip() or said
    raise KzooError(said.removeprefix("error: ") or "The service ended before it answered.")


class EmbeddingService:
    """A running service, and the model there whose embeddings are asked for.

    Args:
        url: address of the service.
        model: name of the model; may be left out where there is one.
        api_key: the service's key, if it has one.

    Attributes:
        url: the address.
        model: the model's name.
        status: what `GET /status/server` says.
        max_length: most tokens that the model reads of a sentence.

    Raises:
        KzooError: nobody answers there, or not as kzoo's service does, or there is no such model.
    """

    def __init__(self, url: str, model: str | None = None, api_key: str | None = None):
        self.url = url.rstrip("/")
        self.api_key = api_key
        self._connection = Connection(url, api_key)
        self._wait_until_checked()
        self.model = self._find(model)
        self.status = self._get("/status/server")
        tokenized = self._ask("POST", "/tokenize", {"model": self.model, "inputs": [_WORDS, ""]})
        self.max_length: int = tokenized["max_length"]
        words, frame = tokenized["ids"]
        self._words = [index for index in words if index not in frame]
        self._frame = len(frame)

    @property
    def limits(self) -> dict[str, float]:
        """What bounds requests, by the names of `kzoo serve`'s flags; nothing where the service does not say it."""
        return self.status.get("limits", {})

    def asks(self, length: int, batch: int) -> list[Ask]:
        """Return requests for a batch of sentences of so many tokens each, the special ones included."""
        draw = random.Random(length * batch)
        return [
            Ask(self._body([draw.choices(self._words, k=length - self._frame) for _ in range(batch)]), batch)
            for _ in range(_BODIES)
        ]

    def try_out(self, length: int, batch: int) -> float:
        """Return the seconds that one such request takes.

        Raises:
            KzooError: it is refused, or the service reads another number of tokens.
        """
        ask = self.asks(length, batch)[0]
        begun = time.perf_counter()
        answer = self._read(*self._send("POST", "/v1/embeddings", ask.body))
        seconds = time.perf_counter() - begun
        found = answer["usage"]["prompt_tokens"]
        if found != length * batch:
            raise KzooError(f"'{self.model}' read {found} tokens where {length * batch} were sent.")
        return seconds

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _body(self, rows: list[list[int]]) -> bytes:
        return json.dumps({"model": self.model, "input": rows, "encoding_format": "base64"}).encode()

    def _wait_until_checked(self) -> None:
        end = time.monotonic() + _STARTING
        while True:
            status, content = self._send("GET", "/ready")
            if status not in (200, 503):
                self._read(status, content)
            if self._json(content).get("status") != "starting" or time.monotonic() > end:
                return
            time.sleep(0.05)

    def _find(self, model: str | None) -> str:
        listed = {each["id"]: each["task"] for each in self._get("/v1/models")["data"]}
        embedding = [name for name, task in listed.items() if task == "embedding"]
        if model is not None and model not in listed:
            raise KzooError(f"No model '{model}' at {self.url}.{did_you_mean(model, embedding)}")
        if model is not None and model not in embedding:
            raise KzooError(f"'{model}' is for the task {listed[model]}; what is measured are embeddings.")
        if not embedding:
            failed = ", ".join(self._get("/health")["failed"])
            because = f"; not opened: {failed}" if failed else ""
            raise KzooError(
                f"No model for embeddings at {self.url}{because}. Serve one: kzoo export CHECKPOINT BUNDLE "
                "--task embedding, then kzoo serve BUNDLE."
            )
        if model is None and len(embedding) > 1:
            raise KzooError(f"Several models at {self.url}: {', '.join(embedding)}. Choose one with --model.")
        return model or embedding[0]

    def _get(self, path: str) -> dict[str, Any]:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        body = None if content is None else json.dumps(content).encode()
        return self._read(*self._send(method, path, body))

    def _send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        try:
            return self._connection.ask(method, path, body)
        except TimeoutError:
            raise KzooError(f"The service at {self.url} did not answer in time.") from None
        except (OSError, http.client.HTTPException) as error:
            raise KzooError(
                f"No service answers at {self.url} ({error}). Start one with kzoo serve, say where it is with --url, "
                "or give --bundle."
            ) from None

    def _read(self, status: int, content: bytes) -> dict[str, Any]:
        answer = self._json(content)
        if status == 200:
            return answer
        hint = " Give it in the variable KZOO_API_KEY." if status == 401 else ""
        raise KzooError(
            f"The service at {self.url} says, with status {status}: {answer.get('error', '')}{hint}"
        )

    def _json(self, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KzooError(f"What answers at {self.url} is no service of kzoo's.")
        return answer
