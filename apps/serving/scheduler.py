"""A bundle's queue and the thread that works it off, batch by batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from kzoo.apps.serving.waiting import Budget, Item, Ticket, Waiting
from kzoo.errors import KzooError

_WAIT = 0.1  # of the time that the last batch took, at most
_ENOUGH = 8  # a batch with this part of the budget's tokens is not waited for
_SMOOTHING = 0.2


class FullError(KzooError):
    """More waits than may; `retry_after` says in how many seconds there may be room."""

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(KzooError):
    """Nothing is taken any more: the server is stopping."""


class ExpiredError(KzooError):
    """A request's deadline was over before its turn came."""


@dataclass(frozen=True)
class BatchReport:
    """What ran together.

    Attributes:
        items: how many.
        tokens: theirs, without padding.
        seconds: how long it took.
        waiting: items that still wait.
    """

    items: int
    tokens: int
    seconds: float
    waiting: int


class Scheduler:
    """Runs the items of many requests together, in batches that a budget bounds.

    A request that comes while nothing runs is run at once. After a batch of several requests the next one waits
    a tenth of the time that the last one took, `max_wait` at most, for those who were just answered to ask again,
    unless there is enough to do already. Safe to use from many threads.

    Args:
        run: called with a kind and the values of some items, from one thread; gives a result for each, in order.
        budget: bounds a batch.
        max_waiting: most items that wait.
        max_wait: most seconds that a free bundle waits for company.
        report: called after each batch.
        clock: tells the time in seconds.

    Example:
        >>> scheduler = Scheduler(lambda kind, values: [value.upper() for value in values])
        >>> scheduler.submit("shout", ["a", "b"], [1, 1]).future.result()
        ['A', 'B']
        >>> scheduler.close()
    """

    def __init__(
        self,
        run: Callable[[Any, list[Any]], Sequence[Any]],
        budget: Budget | None = None,
        *,
        max_waiting: int = 1024,
        max_wait: float = 0.005,
        report: Callable[[BatchReport], None] = lambda report: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._run = run
        self._budget = budget or Budget()
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._report = report
        self._clock = clock
        self._waiting = Waiting(self._budget)
        self._changed = threading.Condition()
        self._closed = False
        self._crowded = False
        self._ended = -math.inf
        self._took = 0.0
        self._speed = 0.0  # tokens a second, lately
        self._thread = threading.Thread(target=self._work, name="kzoo-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self._waiting.items

    def submit(
        self, kind: Hashable, values: Sequence[Any], sizes: Sequence[int], deadline: float = math.inf
    ) -> Ticket:
        """Put the items of a request in line.

        Args:
            kind: what is asked of the bundle; only items of one kind run together.
            values: the items, at least one.
            sizes: their tokens.
            deadline: when they are of no use any more, on the scheduler's clock.

        Returns:
            The ticket; its `future` gives the results, or raises what `run` did or ExpiredError.

        Raises:
            FullError: too many items wait already.
            ClosedError: the scheduler was closed.
        """
        ticket = Ticket(kind, len(values), self._clock(), deadline)
        pairs = enumerate(zip(values, sizes, strict=True))
        # A batch of nothing but empty texts has a length too.
        items = [Item(ticket, place, value, max(1, size)) for place, (value, size) in pairs]
        with self._changed:
            if self._closed:
                raise ClosedError("The server is stopping; ask again in a moment.")
            if self._waiting.items + len(items) > self._max_waiting:
                raise FullError(
                    f"{self._waiting.items} items wait already, of {self._max_waiting} that may.",
                    self._seconds_of_work(),
                )
            self._waiting.add(items)
            self._changed.notify()
        ticket.future.add_done_callback(lambda future: self._forget(future, ticket))
        return ticket

    def close(self) -> None:
        """Take nothing any more, and return once what was taken is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _seconds_of_work(self) -> int:
        return max(1, math.ceil(self._waiting.tokens / self._speed)) if self._speed else 1

    def _forget(self, future: Future[Any], ticket: Ticket) -> None:
        if future.cancelled():
            with self._changed:
                self._waiting.drop(ticket)
                self._changed.notify()

    def _work(self) -> None:
        while batch := self._next():
            results = self._compute(batch)
            self._settle(batch, results)

    def _next(self) -> list[Item]:
        """Return the next batch, or none once there will be no more."""
        while True:
            with self._changed:
                now = self._clock()
                late = self._waiting.expired(now)
                for ticket in late:
                    self._waiting.drop(ticket)
                pause = self._pause(now)
                if not late and pause <= 0:
                    return self._waiting.take() if self._waiting.items else []
                if not late:
                    self._changed.wait(None if pause == math.inf else pause)
            for ticket in late:
                _fail(ticket, ExpiredError("The deadline was over before the request's turn came."))

    def _pause(self, now: float) -> float:
        """Return how many seconds to wait before a batch is taken."""
        if self._closed:
            return 0.0
        if not self._waiting.items:
            return math.inf
        if not self._crowded or self._waiting.tokens * _ENOUGH >= self._budget.tokens:
            return 0.0
        return self._ended + min(self._max_wait, _WAIT * self._took) - now

    def _compute(self, batch: list[Item]) -> list[Any]:
        """Return a result or an exception for each item."""
        start = self._clock()
        kind = batch[0].ticket.kind
        try:
            results = list(self._run(kind, [item.value for item in batch]))
        except Exception as error:
            # What is wrong with one item is no matter of the others.
            results = [error] if len(batch) == 1 else [self._alone(kind, item) for item in batch]
        self._ended = self._clock()
        self._took = self._ended - start
        return results

    def _alone(self, kind: Any, item: Item) -> Any:
        try:
            (result,) = self._run(kind, [item.value])
        except Exception as error:
            return error
        return result

    def _settle(self, batch: list[Item], results: list[Any]) -> None:
        tokens = sum(item.size for item in batch)
        with self._changed:
            tickets = {id(item.ticket): item.ticket for item in batch}.values()
            self._crowded = len(tickets) > 1 or self._waiting.items > 0
            speed = tokens / max(self._took, 1e-9)
            self._speed += (speed - self._speed) * (_SMOOTHING if self._speed else 1.0)
            for ticket in tickets:
                ticket.computed += self._took
                ticket.queued = self._ended - ticket.arrived - ticket.computed
            for item, result in zip(batch, results, strict=True):
                item.ticket.results[item.place] = result
                item.ticket.missing -= 1
            over = [ticket for ticket in tickets if ticket.missing == 0]
            report = BatchReport(len(batch), tokens, self._took, self._waiting.items)
        self._report(report)
        for ticket in over:
            error = next((result for result in ticket.results if isinstance(result, Exception)), None)
            if error is not None:
                _fail(ticket, error)
            elif ticket.future.set_running_or_notify_cancel():
                ticket.future.set_result(ticket.results)


def _fail(ticket: Ticket, error: Exception) -> None:
    if ticket.future.set_running_or_notify_cancel():
        ticket.future.set_exception(error)
