"""A bundle that is served: its pipeline behind a queue, and whether it is fit to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kzoo.apps.serving.limits import Limits
from kzoo.apps.serving.metrics import Metrics
from kzoo.apps.serving.reading import Reading
from kzoo.apps.serving.scheduler import Budget, ClosedError, Scheduler
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline


class Kind(NamedTuple):
    """What is asked of a bundle; requests that ask the same run together.

    Attributes:
        options: of the pipeline's call.
        own: something of its own for a request that must run by itself, as drawing with a seed must.
    """

    options: tuple[tuple[str, Any], ...] = ()
    own: object = None


class ServedBundle:
    """One bundle of a service.

    Attributes:
        pipeline: runs it.
        reading: makes items of what requests bring.
        problem: why it must not be trusted; None while it was not checked, and once it was found right.
        ready: whether it gave what export recorded.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits, metrics: Metrics):
        self.pipeline = pipeline
        self.reading = Reading(pipeline, limits.max_tokens)
        self.problem: str | None = None
        self.ready = False
        self._limits = limits
        self._metrics = metrics
        self._scheduler: Scheduler | None = None

    @property
    def name(self) -> str:
        """The name that requests call it by."""
        return self.pipeline.name

    @property
    def scheduler(self) -> Scheduler:
        """Its queue.

        Raises:
            ClosedError: the service is not running.
        """
        if self._scheduler is None:
            raise ClosedError("The server is not running yet; ask again in a moment.")
        return self._scheduler

    def start(self) -> None:
        """Begin to take requests."""
        limits = self._limits
        self._scheduler = Scheduler(
            self._run,
            Budget(limits.batch_tokens, limits.batch_items),
            max_waiting=limits.max_queue,
            max_wait=limits.max_wait_ms / 1000,
            report=lambda report: self._metrics.batch(self.name, report),
        )
        self._metrics.watch_queue(self.name, lambda: self.scheduler.waiting)

    def check(self) -> None:
        """Run what export recorded, and note whether the same comes out; afterwards the bundle is warm."""
        try:
            self.pipeline.verify()
        except KzooError as error:
            self.problem = str(error)
        except Exception as error:  # one bundle's must not end the service
            self.problem = f"It could not be checked: {type(error).__name__}."
        else:
            self.ready = True

    def close(self) -> None:
        """Take no more requests, and return once those that were taken are answered."""
        if self._scheduler is not None:
            self._scheduler.close()

    def _run(self, kind: Kind, values: list[Any]) -> Sequence[Any]:
        call: Any = self.pipeline  # each task has options of its own
        return call(values, batch_size=len(values), **dict(kind.options))
