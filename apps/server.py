"""Run an ASGI application on a port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import threading
import time
import webbrowser
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn
from rich.console import Console

from kzoo.errors import KzooError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_GRACE_SECONDS = 2.0  # pages hold a connection open for as long as they are shown
_MAX_CONNECTIONS = 200
_PARTING_SECONDS = 0.3
# A connection that is closed for being idle just when its client asks again loses a request: long after it has.
_IDLE_SECONDS = 60


class Server:
    """A web server that has its port already; `run` it here, or `start` it beside the caller.

    Args:
        app: what to serve.
        host: address to listen on.
        port: port to listen on, or 0 for any free one.
        open_browser: open the address in the user's browser once the server answers.
        max_connections: more at once get status 503.
        grace: seconds that requests have to end in when the server stops.
        on_stop: called when the server is told to stop, a moment before it takes no more connections.

    Raises:
        KzooError: if the port is taken or the address is not this machine's.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        open_browser: bool = False,
        max_connections: int = _MAX_CONNECTIONS,
        grace: float = _GRACE_SECONDS,
        on_stop: Callable[[], None] | None = None,
    ):
        self._socket = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            limit_concurrency=max_connections,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=math.ceil(grace),
            backlog=max_connections,
        )
        self._server = _Announced(config, self.url, open_browser, on_stop)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until Ctrl+C or SIGTERM."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def start(self) -> Self:
        """Serve from a thread, and return once the server answers."""
        self._thread = threading.Thread(target=self.run, name="kzoo-server", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise KzooError(f"The server at {self.url} stopped while it was starting; its log says why.")
            time.sleep(0.01)
        return self

    def close(self) -> None:
        """Stop a server that was started with `start`."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Announced(uvicorn.Server):
    """Says where it is once it answers, and to the application that it will stop."""

    def __init__(
        self, config: uvicorn.Config, url: str, open_browser: bool, on_stop: Callable[[], None] | None
    ):
        super().__init__(config)
        self._url = url
        self._open_browser = open_browser
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            Console(stderr=True).print(f"Serving at {self._url}", highlight=False)
            if self._open_browser:
                threading.Thread(target=webbrowser.open, args=(self._url,), daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop is not None:
            self._on_stop()
            # A connection that is closed while its client is about to ask loses a request. Those that ask now are
            # answered and told to go elsewhere.
            await asyncio.sleep(_PARTING_SECONDS)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise KzooError(f"Port {port} of {host} is taken; give another, or 0 for any free one.") from None
        raise KzooError(f"Cannot listen on {host}, port {port}: {error.strerror or error}.") from None
    except OverflowError:
        raise KzooError(f"Port {port} does not exist; ports go from 0 to 65535.") from None
    # Connections inherit it; asyncio sets it on sockets of its own making alone. Without it the end of an answer
    # waits until the client has acknowledged its beginning, which takes clients 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
