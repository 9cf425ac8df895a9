"""What waits for its turn in front of one bundle, and who goes next."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

_LONG = 512  # tokens; the scores of attention grow with the square of a length
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

    The lines share the bundle's time, counted in tokens (start-time fair queueing), by the square root of the tokens
    that wait in each: neither do long texts keep a short one waiting nor the reverse, and a line that most stand in
    moves faster than an empty one. Within a line the oldest is first. Not safe to use from several threads.
    """

    def __init__(self, budget: Budget):
        self._budget = budget
        self._lines: dict[int, list[Item]] = {}
        # By line, what it has had for its weight; the least of those that wait goes next.
        self._had: dict[int, float] = {}
        self._turn = 0.0
        self.items = 0
        self.tokens = 0

    def add(self, items: Iterable[Item]) -> None:
        """Put items at the ends of their lines."""
        for item in items:
            line = _line(item.size)
            if not self._lines.get(line):
                # One that was away has saved nothing up.
                self._had[line] = max(self._had.get(line, 0.0), self._turn)
            self._lines.setdefault(line, []).append(item)
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
        first = min(self._lines, key=lambda line: (self._had[line], self._lines[line][0].ticket.arrived))
        self._turn = self._had[first]
        kind = self._lines[first][0].ticket.kind
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
            if taken:
                weight = math.sqrt(sum(item.size for item in self._lines[line]))
                self._had[line] += sum(item.size for item in taken) / weight
            self._remove(line, taken)
            batch += taken
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
        if not self._lines:
            # Where nobody waits, all begin alike.
            self._had.clear()
            self._turn = 0.0


def _line(size: int) -> int:
    """Return the line of items of a size: two lines for each doubling."""
    return math.ceil(2 * math.log2(max(1, size)))
