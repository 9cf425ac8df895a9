"""The service of `create_app` in replicas on a Ray cluster, behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from kzoo.apps.guard import BodyLimit
from kzoo.apps.server import Server
from kzoo.apps.service import create_app
from kzoo.apps.serving.front import LOG, LOOPBACK
from kzoo.apps.serving.limits import Limits
from kzoo.apps.shelf import open_bundles
from kzoo.cluster import ray_cluster
from kzoo.errors import KzooError
from kzoo.runtime import TruncationWarning
from kzoo.runtime.lanes import cores

_GRACE = 5.0  # seconds beyond the deadline, to send what was computed
# How many replicas may die over one request; it may be why.
_TRIES = 3
_PAUSE = 0.1  # seconds in which it gets about who has died
_SCOPE = (
    "method",
    "path",
    "raw_path",
    "query_string",
    "headers",
    "client",
    "server",
    "scheme",
    "http_version",
)
_LINES = "kzoo.lines"

_lines: contextvars.ContextVar[list[str]] = contextvars.ContextVar("lines")


@dataclass(frozen=True)
class Replicas:
    """How many there are.

    Attributes:
        least: that are always there.
        most: that there may be; by default as many as the cluster has cores for.
        requests: of each at a time; with more, others are started, with fewer, some are stopped.
        threads: of each.
    """

    least: int = 1
    most: int | None = None
    requests: float = 16.0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.least < 1 or self.threads < 1 or self.requests <= 0:
            raise KzooError(
                "There must be at least 1 replica, with at least 1 thread and more than 0 requests."
            )
        if self.most is not None and self.most < self.least:
            raise KzooError(f"There cannot be at least {self.least} and at most {self.most} replicas.")


@contextlib.contextmanager
def ray_server(
    bundles: Sequence[str | os.PathLike[str]],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: Replicas | None = None,
    address: str | None = None,
    limits: Limits | None = None,
    api_key: str | None = None,
    allowed_hosts: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    access_log: bool = False,
) -> Iterator[Server]:
    """Give a server, not running yet, whose requests are answered by replicas, which stop when the block ends.

    A request whose replica dies is given to another one. Bundles must lie at the same paths on each machine.
    There are no pages: they keep state between requests.

    Args:
        bundles: paths.
        host: address to listen on.
        port: port to listen on, or 0 for any free one.
        replicas: how many.
        address: of a Ray cluster that this machine is part of; without one it is started here.
        limits: of each replica; those of bytes and connections, of the whole.
        api_key: see `create_app`.
        allowed_hosts: see `kzoo.apps.serve`.
        cors_origins: see `create_app`.
        access_log: log requests to this process' logger `kzoo.service`, without their texts.

    Raises:
        KzooError: the port is taken, no cluster is there, or it has no room.
        MissingDependencyError: Ray is not installed.
    """
    limits, replicas = limits or Limits(), replicas or Replicas()
    settings = {
        "limits": limits,
        "api_key": api_key,
        "allowed_hosts": [*LOOPBACK, host, *allowed_hosts] if host in LOOPBACK or allowed_hosts else None,
        "cors_origins": list(cors_origins),
        "access_log": access_log,
    }
    dispatch = _Dispatch(limits)
    server = Server(
        BodyLimit(dispatch, limits.max_bytes, limits.read_timeout),
        host,
        port,
        max_connections=limits.max_connections,
        grace=limits.deadline + _GRACE,
        on_stop=dispatch.stop,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        ray = stack.enter_context(ray_cluster(address, (replicas.most or 0) * replicas.threads or cores()))
        # After Ray, which has a way of its own with it.
        stack.enter_context(_interrupted_by_sigterm())
        paths = [str(Path(bundle).absolute()) for bundle in bundles]
        dispatch.handle = stack.enter_context(_deployed(ray, replicas, limits, paths, settings))
        dispatch.lost = _ways_to_be_lost(ray)
        yield server


class Replica:
    """One replica: the application of `create_app`, called with what the front has read."""

    def __init__(self, bundles: Sequence[str], threads: int, settings: Mapping[str, Any]) -> None:
        warnings.filterwarnings("ignore", category=TruncationWarning)
        LOG.handlers, LOG.propagate = [_Collected()], False
        LOG.setLevel(logging.INFO)
        _listen_on_loopback()
        shelf = open_bundles(bundles, threads)
        self._app = create_app([*shelf.pipelines.values()], gallery=False, **settings)
        self._app.state.service.failures.update(shelf.failures)
        self._running: Any = None

    async def check_health(self) -> None:
        """Be there: Ray asks before it sends requests, and from time to time."""
        if self._running is None:
            self._running = self._app.router.lifespan_context(self._app)
            await self._running.__aenter__()

    async def __call__(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[list[Message]]:
        """Yield the answer's messages, as ASGI has them, those together that are there at once."""
        await self.check_health()
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        answering = asyncio.create_task(self._answer(scope, body, messages))
        try:
            while (message := await messages.get()) is not None:
                together = [message]
                while not messages.empty() and (message := messages.get_nowait()) is not None:
                    together.append(message)
                yield together
                if message is None:
                    break
        finally:
            # The client may have gone.
            answering.cancel()

    async def _answer(
        self, scope: dict[str, Any], body: bytes, messages: asyncio.Queue[Message | None]
    ) -> None:
        read = False

        async def receive() -> Message:
            nonlocal read
            if read:
                # Where the client goes, this is cancelled.
                await asyncio.Event().wait()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        lines: list[str] = []
        _lines.set(lines)
        try:
            await self._app(
                {"type": "http", "asgi": {"version": "3.0"}, "root_path": "", **scope}, receive, messages.put
            )
        finally:
            if lines:
                messages.put_nowait({"type": _LINES, "lines": lines})
            messages.put_nowait(None)


def _listen_on_loopback() -> None:
    """Keep to this machine, where the cluster does, the port too that Ray opens in each replica to all."""
    import ray
    from ray.serve._private import replica

    bind = getattr(replica, "add_port_to_grpc_server", None)
    if bind is not None and ray.util.get_node_ip_address() == "127.0.0.1":
        replica.add_port_to_grpc_server = lambda server, address: bind(
            server, address.replace("[::]", "127.0.0.1")
        )


class _Collected(logging.Handler):
    """Keeps a request's log lines for the front, which has the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = _lines.get(None)
        if lines is not None:
            lines.append(record.getMessage())


class _Dispatch:
    """Has replicas answer requests whose bodies are read, as ASGI has it."""

    handle: Any = None
    lost: tuple[type[Exception], ...] = ()

    def __init__(self, limits: Limits) -> None:
        self._deadline = limits.deadline
        self._stopping = False

    def stop(self) -> None:
        """Tell clients from now on to go elsewhere."""
        self._stopping = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            if self._stopping and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        answering = asyncio.ensure_future(self._answer(scope, body, answer))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait(
                {answering, gone}, timeout=self._deadline + _GRACE, return_when=asyncio.FIRST_COMPLETED
            )
            if answering.done():
                answering.result()
            elif not gone.done() and not begun:
                await _problem(504, f"This took longer than {self._deadline:g} s. Send less at a time.")(
                    scope, receive, answer
                )
        finally:
            answering.cancel()
            gone.cancel()

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        if self._stopping and scope["path"] == "/ready":
            await JSONResponse({"status": "stopping", "models": {}, "pages": None}, 503)(
                scope, _nothing, send
            )
            return
        given = {name: scope[name] for name in _SCOPE if name in scope}
        for _ in range(_TRIES):
            begun = False
            answers = self.handle.remote(given, body)
            try:
                async for messages in answers:
                    for message in messages:
                        if message["type"] == _LINES:
                            for line in message["lines"]:
                                LOG.info(line)
                        else:
                            begun = True
                            await send(message)
                return
            except self.lost:
                if begun:
                    raise  # the connection is closed, and the client sees that something is missing
                await asyncio.sleep(_PAUSE)
            except asyncio.CancelledError:
                answers.cancel()
                raise
        await _problem(503, "The replicas that were asked died; ask again in a moment.")(
            scope, _nothing, send
        )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _problem(status: int, message: str) -> JSONResponse:
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": message}, status, headers=headers)


def _ways_to_be_lost(ray: Any) -> tuple[type[Exception], ...]:
    from ray.serve.exceptions import DeploymentUnavailableError

    return ray.exceptions.RayActorError, DeploymentUnavailableError


@contextlib.contextmanager
def _deployed(
    ray: Any, replicas: Replicas, limits: Limits, bundles: list[str], settings: Mapping[str, Any]
) -> Iterator[Any]:
    """Start replicas, and give what sends requests to them."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    there = int(ray.cluster_resources().get("CPU", 0)) // replicas.threads
    if there < replicas.least:
        raise KzooError(
            f"The cluster has room for {there} replicas of {replicas.threads} threads, and not {replicas.least}."
        )
    deployment = serve.deployment(Replica).options(
        autoscaling_config={
            "min_replicas": replicas.least,
            "max_replicas": max(replicas.least, min(replicas.most or there, there)),
            "target_ongoing_requests": replicas.requests,
        },
        # Each has queues and limits of its own; what waits elsewhere would know nothing of them.
        max_ongoing_requests=limits.max_connections,
        graceful_shutdown_timeout_s=limits.deadline + _GRACE,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_cpus": replicas.threads},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    name = f"kzoo-{os.getpid()}"
    # Requests come by this process' own port.
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
    try:
        try:
            bound = deployment.bind(bundles, replicas.threads, settings)
            handle = serve.run(bound, name=name, route_prefix=None)
        except RuntimeError as error:
            raise KzooError(f"The replicas did not start: {error}") from error
        yield handle.options(stream=True)
    finally:
        serve.delete(name)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the program as Ctrl+C does, so that what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
