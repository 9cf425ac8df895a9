"""The service's state, and the way of a request through it: read, queued, computed, in time or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import Request

from kzoo.apps.serving.bundles import Kind, ServedBundle
from kzoo.apps.serving.limits import Limits
from kzoo.apps.serving.metrics import Metrics
from kzoo.apps.serving.reading import Prepared
from kzoo.apps.serving.scheduler import ExpiredError, FullError
from kzoo.errors import KzooError, did_you_mean
from kzoo.runtime.lanes import cores

if TYPE_CHECKING:
    from kzoo.apps.shelf import Shelf

NOTE = "kzoo.note"  # where a request's note lies in its scope
_READ_HERE = 4_000  # characters; to hand fewer to another thread takes longer than to read them


class UnknownModelError(KzooError):
    """A request for a model that is not served."""


class GoneError(Exception):
    """The client closed the connection before its answer was there."""


@dataclass
class Note:
    """What is known of a request, for its log line and the headers of its answer.

    Attributes:
        id: the client's own, or a new one.
        arrived: on the monotonic clock.
        model: the bundle that it asks.
        items: texts or images in it.
        tokens: theirs.
        stages: seconds by stage.
    """

    id: str
    arrived: float
    model: str | None = None
    items: int = 0
    tokens: int = 0
    stages: dict[str, float] = field(default_factory=dict)


class Service:
    """All bundles of a service, what they are bounded by, and how they have done.

    Attributes:
        bundles: by name.
        failures: why others could not be opened, by folder.
        limits: what bounds requests.
        metrics: what is counted.
        stopping: whether the server is about to stop.
        pages: whether the pages are there; None if there are to be none.
    """

    def __init__(self, shelf: Shelf, limits: Limits):
        self.limits = limits
        self.metrics = Metrics()
        self.failures = shelf.failures
        self.bundles = {
            name: ServedBundle(pipeline, limits, self.metrics) for name, pipeline in shelf.pipelines.items()
        }
        self.stopping = False
        self.pages: bool | None = None
        self._streams = 0
        # More at once would only share the same cores.
        self._readers = anyio.CapacityLimiter(cores())

    def find(self, name: str | None, tasks: Iterable[str] | None = None) -> ServedBundle:
        """Return the bundle that a request names, or the only one for its tasks if it names none.

        Raises:
            UnknownModelError: there is none of that name, or several to choose from.
            KzooError: the one that is named is for another task.
        """
        fitting = [
            bundle for bundle in self.bundles.values() if tasks is None or bundle.pipeline.task in tasks
        ]
        if name is None:
            if len(fitting) != 1:
                known = f": {', '.join(bundle.name for bundle in fitting)}" if fitting else ""
                raise UnknownModelError(f"Give a model; {len(fitting)} here can do this{known}.")
            return fitting[0]
        if name not in self.bundles:
            raise UnknownModelError(f"No model '{name}' here.{did_you_mean(name, self.bundles)}")
        bundle = self.bundles[name]
        if bundle not in fitting:
            others = ", ".join(each.name for each in fitting)
            raise KzooError(
                f"'{name}' is for the task {bundle.pipeline.task}, and not for this."
                + (f" These are: {others}." if others else "")
            )
        return bundle

    async def read(
        self, request: Request, bundle: ServedBundle, way: Callable[[Any], Prepared], items: Sequence[Any]
    ) -> Prepared:
        """Read a request's items, in another thread if they are long.

        Args:
            request: where they come from.
            bundle: whose they are.
            way: a method of its `reading`.
            items: texts, rows of token ids, or files.

        Raises:
            KzooError: there are none or too many, or one is wrong.
            ExpiredError: the deadline was over first.
        """
        if not items:
            raise KzooError("There are no inputs; send at least one.")
        if len(items) > self.limits.max_items:
            raise KzooError(
                f"inputs has {len(items)} items; this server takes {self.limits.max_items} at a time."
            )
        if way != bundle.reading.images and sum(map(_characters, items)) <= _READ_HERE:
            return way(items)
        left = request.scope[NOTE].arrived + self.limits.deadline - time.monotonic()
        try:
            async with asyncio.timeout(left):
                return await anyio.to_thread.run_sync(
                    way, items, abandon_on_cancel=True, limiter=self._readers
                )
        except TimeoutError:
            raise self._too_late() from None

    async def ask(
        self,
        request: Request,
        bundle: ServedBundle,
        prepared: Prepared,
        options: Mapping[str, Any] | None = None,
        *,
        weight: int = 1,
        alone: bool = False,
    ) -> list[Any]:
        """Have a bundle answer, and note how long each stage took.

        Args:
            request: where the items come from; when its client goes, they leave the queue.
            bundle: the bundle.
            prepared: the items.
            options: of the pipeline's call; those that are None are left to it.
            weight: what an item costs beside its tokens, such as how many beams it grows.
            alone: whether it must not run with other requests.

        Raises:
            FullError: too many items wait.
            ExpiredError: the deadline was over first.
            GoneError: the client has gone.
        """
        note: Note = request.scope[NOTE]
        self.note(note, bundle, prepared)
        given = tuple((name, value) for name, value in (options or {}).items() if value is not None)
        kind = Kind(given, object() if alone else None)
        deadline = note.arrived + self.limits.deadline
        submitted = time.monotonic()
        ticket = bundle.scheduler.submit(
            kind, prepared.values, [size * weight for size in prepared.sizes], deadline
        )
        answer: asyncio.Future[Any] = asyncio.wrap_future(ticket.future)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                {answer, gone}, timeout=deadline - submitted, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            if gone.done():
                raise GoneError("The client has gone.")
            raise self._too_late()
        finally:
            gone.cancel()
            ticket.future.cancel()
            stages = {
                "read": submitted - note.arrived,
                "queue": ticket.queued,
                "compute": ticket.computed,
            }
            note.stages.update(stages)
            for stage, seconds in stages.items():
                self.metrics.stage(bundle.name, stage, seconds)

    def note(self, note: Note, bundle: ServedBundle, prepared: Prepared) -> None:
        """Note what a request asks."""
        note.model, note.items, note.tokens = bundle.name, len(prepared.values), sum(prepared.sizes)
        self.metrics.asked(bundle.name, note.items, note.tokens)

    def _too_late(self) -> ExpiredError:
        return ExpiredError(f"This took longer than {self.limits.deadline:g} s. Send less at a time.")

    def begin_stream(self) -> None:
        """Take one of the places for answers that grow; `end_stream` gives it back.

        Raises:
            FullError: all are taken.
        """
        if self._streams >= self.limits.max_streams:
            raise FullError(f"{self._streams} translations are being written already.", 1)
        self._streams += 1

    def end_stream(self) -> None:
        """Give back what `begin_stream` took."""
        self._streams -= 1


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _characters(item: Any) -> int:
    """Return how long an item is: characters of a text or a pair, or tokens."""
    return sum(map(len, item)) if isinstance(item, tuple) else len(item)
