"""Clients that ask a service all at once, each on a connection of its own."""

from __future__ import annotations

import http.client
import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from kzoo.errors import KzooError

_PAUSE = 0.1  # seconds after a refusal, so that refused clients do not ask without end


class Ask(NamedTuple):
    """The JSON of a request, and how many sentences are in it."""

    body: bytes
    sentences: int = 1


@dataclass
class Load:
    """What came of a load.

    Attributes:
        sentences: those that were answered.
        seconds: from the first request to the last answer.
        latencies: seconds of each request that was answered.
        refusals: what others got instead, such as "status 429", with how many did.
    """

    sentences: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Sentences a second."""
        return self.sentences / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """Return the seconds in which so many of a hundred requests were answered; NaN if none was."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else math.nan


class Connection:
    """One client's connection, which is opened again after it was lost.

    Args:
        url: address of the service.
        api_key: its key, if it has one.
        timeout: seconds to wait for an answer.

    Raises:
        KzooError: if the address is none of a service.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 60.0):
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise KzooError(f"'{url}' is no address of a service; one looks like http://127.0.0.1:8000.")
        secure = address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(address.hostname, address.port, timeout=timeout)
        self._folder = address.path.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request, and return status and content of its answer.

        Raises:
            OSError: there is no connection, or no answer in time.
            http.client.HTTPException: the connection was lost.
        """
        try:
            self._connection.request(method, self._folder + path, body, self._headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def ask_all(
    url: str,
    asks: Iterable[Ask],
    clients: int,
    *,
    path: str = "/v1/embeddings",
    seconds: float = math.inf,
    api_key: str | None = None,
    timeout: float = 60.0,
) -> Load:
    """Have clients ask, each as soon as it has its last answer, and return what came of it.

    Args:
        url: address of the service.
        asks: what they send in turn; without an end only if there is one of the time.
        clients: how many ask at once.
        path: of the requests.
        seconds: after these nobody asks again; what was asked is waited for.
        api_key: the service's key, if it has one.
        timeout: seconds to wait for an answer.

    Raises:
        KzooError: if the address is none of a service.
    """
    waiting = iter(asks)
    lock = threading.Lock()
    load = Load()
    connections = [Connection(url, api_key, timeout) for _ in range(clients)]
    started = time.perf_counter()

    def work(connection: Connection) -> None:
        # Once at least, however late it begins on a machine with much else to do.
        for turn in itertools.count():
            if turn and time.perf_counter() - started >= seconds:
                break
            with lock:
                ask = next(waiting, None)
            if ask is None:
                break
            begun = time.perf_counter()
            refusal = _send(connection, path, ask)
            ended = time.perf_counter()
            with lock:
                load.seconds = ended - started
                if refusal is None:
                    load.sentences += ask.sentences
                    load.latencies.append(ended - begun)
                else:
                    load.refusals[refusal] += 1
            if refusal is not None:
                time.sleep(_PAUSE)
        connection.close()

    threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def _send(connection: Connection, path: str, ask: Ask) -> str | None:
    """Return None if a request was answered, or what came instead."""
    try:
        status, _ = connection.ask("POST", path, ask.body)
    except TimeoutError:
        return "no answer in time"
    except (OSError, http.client.HTTPException) as error:
        return f"no connection ({type(error).__name__})"
    return None if status == 200 else f"status {status}"
