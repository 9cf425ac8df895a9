"""What waits for its turn in front of one bundle, and who goes next."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

_LONG = 512  # tokens; the scores of attention grow with the square of a length
_HEAD_START = 0.5  # of its own tokens that an item is due after it came
_PADDING = 0.25  # of a batch, at most, so that shorter texts join longer ones


@dataclass(frozen=True)
class Budget:
    """How much runs together.

    Attributes:
        tokens: most tokens of a batch, padding included; of texts above 512 tokens fewer, as their memory grows with
            the square of their length.
        items: most items of a batch.
    """

    tokens: int = 4096
    items: int = 64

    def holds(self, count: int, longest: int) -> bool:
        """Return whether so many items, the longest with so many tokens, may run together; one always may."""
        padded = count * longest
        return count <= 1 or (
            count <= self.items and padded <= self.tokens and padded * longest <= self.tokens * _LONG
        )


class Ticket:
    """The items of one request, and what comes of them.

    Attributes:
        kind: what is asked; items of one kind may run together.
        future: gives the results in the order of the items; cancelling it takes what still waits out of the queue.
        arrived: when it came, on the scheduler's clock.
        deadline: when it is of no use any more, on that clock.
        came: when it came, on the queue's clock.
        waiting: how many of its items wait.
        missing: how many of its items have no result.
        queued: seconds in which none of its items ran.
        computed: seconds of the batches that its items ran in.
    """

    def __init__(self, kind: Hashable, count: int, arrived: float, deadline: float = math.inf):
        self.kind = kind
        self.future: Future[list[Any]] = Future()
        self.arrived = arrived
        self.deadline = deadline
        self.came = 0.0
        self.waiting = self.missing = count
        self.queued = self.computed = 0.0
        self.results: list[Any] = [None] * count


class Item(NamedTuple):
    """One of a ticket's items, with its place there and its size in tokens."""

    ticket: Ticket
    place: int
    value: Any
    size: int


class Waiting:
    """Items in lines by their length, each line in the order of arrival.

    The line goes next whose first item is due first. A clock counts the tokens that each who waits would have had in
    equal shares (fair queueing; Demers, Keshav and Shenker, 1989, section 2); an item is due half of its own tokens
    after it came. Were it all of them, each would get an equal share, and where many short ones keep coming a long
    one would wait for most of them; were it none, all would go by age, and a short one would wait for all the long
    ones before it. Not safe to use from several threads.
    """

    def __init__(self, budget: Budget):
        self._budget = budget
        self._lines: dict[int, list[Item]] = {}
        self._clock = 0.0
        self.items = 0
        self.tokens = 0

    def add(self, items: Iterable[Item]) -> None:
        """Put items at the ends of their lines."""
        for item in items:
            item.ticket.came = self._clock
            self._lines.setdefault(_line(item.size), []).append(item)
            self.items += 1
            self.tokens += item.size

    def drop(self, ticket: Ticket) -> None:
        """Take out what waits of a ticket."""
        if ticket.waiting:
            for line in list(self._lines):
                self._remove(line, [item for item in self._lines[line] if item.ticket is ticket])

    def expired(self, now: float) -> list[Ticket]:
        """Return the tickets whose deadline is over."""
        late = {
            id(item.ticket): item.ticket
            for items in self._lines.values()
            for item in items
            if item.ticket.deadline <= now
        }
        return list(late.values())

    def take(self) -> list[Item]:
        """Take out the items that run next, of one kind, the longest last; there must be some.

        They are of the line whose turn it is, from its oldest item on, and of shorter ones while little of the batch
        is padding.
        """
        first = min(self._lines, key=lambda line: _due(self._lines[line][0]))
        kind, waited = self._lines[first][0].ticket.kind, self.items
        batch: list[Item] = []
        longest = tokens = 0
        for line in sorted((line for line in self._lines if line <= first), reverse=True):
            taken: list[Item] = []
            for item in self._lines[line]:
                if item.ticket.kind != kind:
                    continue
                longest_then, tokens_then = max(longest, item.size), tokens + item.size
                count = len(batch) + len(taken) + 1
                padding = 1 - tokens_then / (count * longest_then)
                if not self._budget.holds(count, longest_then) or (line != first and padding > _PADDING):
                    break
                taken.append(item)
                longest, tokens = longest_then, tokens_then
            self._remove(line, taken)
            batch += taken
        self._clock += tokens / waited
        return sorted(batch, key=lambda item: item.size)

    def _remove(self, line: int, items: Sequence[Item]) -> None:
        if not items:
            return
        gone = {(id(item.ticket), item.place) for item in items}
        self._lines[line] = [item for item in self._lines[line] if (id(item.ticket), item.place) not in gone]
        for item in items:
            item.ticket.waiting -= 1
            self.tokens -= item.size
        self.items -= len(items)
        if not self._lines[line]:
            del self._lines[line]


def _due(item: Item) -> tuple[float, float]:
    """Return when an item is due on the clock of its queue, and for equal ones when it came."""
    return item.ticket.came + _HEAD_START * item.size, item.ticket.arrived


def _line(size: int) -> int:
    """Return the line of items of a size: two lines for each doubling."""
    return math.ceil(2 * math.log2(max(1, size)))
