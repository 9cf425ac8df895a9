"""Batches that run side by side, each on a thread of its own.

An operation of a small graph is over before a second thread has woken up to help with it: two batches at a time take
about half as long as two threads for each operation of one batch after another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    work: Callable[[Batch], Result], batches: Iterable[Batch], lanes: int
) -> Iterator[tuple[Batch, Result]]:
    """Yield each batch with what comes of it, as they are done; with one lane in their order.

    What `work` raises is raised here, once the batches that have begun by then are done; no other one begins.

    Args:
        work: what is done to each batch; called from several threads at once.
        batches: what there is to do.
        lanes: most that run at once.
    """
    waiting = list(batches)
    if min(lanes, len(waiting)) <= 1:
        for batch in waiting:
            yield batch, work(batch)
        return
    with ThreadPoolExecutor(min(lanes, len(waiting))) as pool:
        begun = {pool.submit(work, batch): batch for batch in waiting}
        try:
            for done in as_completed(begun):
                yield begun[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
