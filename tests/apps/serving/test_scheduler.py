"""A bundle's queue and thread, with work that the test lets go on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from kzoo.apps.serving.scheduler import (
    BatchReport,
    Budget,
    ClosedError,
    ExpiredError,
    FullError,
    Scheduler,
)

TIMEOUT = 10


class Work:
    """Stands for a bundle: notes what it is given, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun: queue.Queue[list[str]] = queue.Queue()
        self.go = threading.Semaphore(0)

    def __call__(self, kind: str, values: list[str]) -> list[str]:
        self.begun.put(values)
        assert self.go.acquire(timeout=TIMEOUT)
        if "bad" in values:
            raise ValueError("bad")
        return [value.upper() for value in values]

    def next(self) -> list[str]:
        """Wait until a batch has begun, and return it."""
        return self.begun.get(timeout=TIMEOUT)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def reports() -> list[BatchReport]:
    return []


@pytest.fixture
def scheduler(work, reports) -> Iterator[Scheduler]:
    scheduler = Scheduler(work, Budget(tokens=4), max_waiting=6, max_wait=0.0, report=reports.append)
    yield scheduler
    work.go.release(100)
    scheduler.close()


def ask(scheduler: Scheduler, *values: str, **options):
    return scheduler.submit("shout", values, [1] * len(values), **options)


def test_results_come_in_order_over_batches(scheduler, work, reports):
    work.go.release(9)
    ticket = scheduler.submit("shout", list("abcdef"), [4, 1, 1, 4, 1, 1])
    assert ticket.future.result(TIMEOUT) == list("ABCDEF")
    assert sum(report.items for report in reports) == 6
    assert len(reports) == 3
    assert ticket.computed > 0


def test_one_that_comes_alone_runs_at_once_and_others_together(scheduler, work):
    first = ask(scheduler, "a")
    assert work.next() == ["a"]
    others = [ask(scheduler, name) for name in "bcd"]
    work.go.release(2)
    assert work.next() == ["b", "c", "d"]
    assert [ticket.future.result(TIMEOUT) for ticket in (first, *others)] == [["A"], ["B"], ["C"], ["D"]]
    assert others[0].queued > 0


def test_after_a_crowd_it_waits_a_little_for_company():
    """The clock stands still, so that it waits until there is enough to do."""
    work = Work()
    scheduler = Scheduler(work, Budget(tokens=16), max_wait=1.0, clock=lambda: 0.0)
    ask(scheduler, "a")
    work.next()
    crowd = [ask(scheduler, "b"), ask(scheduler, "c")]
    work.go.release(2)
    assert crowd[1].future.result(TIMEOUT) == ["C"]
    scheduler._took = 100.0
    scheduler._crowded = True
    alone = ask(scheduler, "d")
    assert not alone.future.done()
    company = ask(scheduler, "e")
    work.go.release(1)
    assert (alone.future.result(TIMEOUT), company.future.result(TIMEOUT)) == (["D"], ["E"])
    assert [work.next(), work.next()] == [["b", "c"], ["d", "e"]]
    scheduler.close()


def test_a_cancelled_request_leaves_the_queue(scheduler, work):
    running = ask(scheduler, "a")
    work.next()
    waiting, other = ask(scheduler, "b", "c"), ask(scheduler, "d")
    assert waiting.future.cancel()
    assert scheduler.waiting == 1
    work.go.release(2)
    assert work.next() == ["d"]
    assert running.future.result(TIMEOUT) == ["A"]
    assert other.future.result(TIMEOUT) == ["D"]


def test_a_request_that_is_cancelled_while_it_runs_disturbs_nobody(scheduler, work):
    running = ask(scheduler, "a")
    work.next()
    assert running.future.cancel()
    work.go.release(2)
    assert ask(scheduler, "b").future.result(TIMEOUT) == ["B"]


def test_a_late_request_is_told_so_and_never_runs():
    now = [0.0]
    work = Work()
    scheduler = Scheduler(work, max_wait=0.0, clock=lambda: now[0])
    ask(scheduler, "a")
    work.next()
    late, other = ask(scheduler, "b", deadline=5.0), ask(scheduler, "c", deadline=50.0)
    now[0] = 6.0
    work.go.release(2)
    with pytest.raises(ExpiredError, match="deadline"):
        late.future.result(TIMEOUT)
    assert other.future.result(TIMEOUT) == ["C"]
    assert work.next() == ["c"]
    scheduler.close()


def test_when_too_many_wait_the_next_is_refused_with_a_time(scheduler, work):
    ask(scheduler, "a")
    work.next()
    ask(scheduler, *"bcdefg")
    with pytest.raises(FullError, match="6 items wait already, of 6 that may") as refused:
        ask(scheduler, "h")
    assert refused.value.retry_after >= 1
    assert scheduler.waiting == 6


def test_one_bad_item_fails_alone(scheduler, work):
    ask(scheduler, "first")
    work.next()
    bad, good = ask(scheduler, "x", "bad"), ask(scheduler, "good")
    work.go.release(9)
    with pytest.raises(ValueError, match="bad"):
        bad.future.result(TIMEOUT)
    assert good.future.result(TIMEOUT) == ["GOOD"]
    assert ask(scheduler, "next").future.result(TIMEOUT) == ["NEXT"]


def test_closing_finishes_what_was_taken_and_takes_no_more(work):
    scheduler = Scheduler(work)
    tickets = [ask(scheduler, name) for name in "abc"]
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler._closed:
        pass
    with pytest.raises(ClosedError):
        ask(scheduler, "d")
    work.go.release(3)
    assert [ticket.future.result(TIMEOUT) for ticket in tickets] == [["A"], ["B"], ["C"]]
    closing.join(TIMEOUT)
    assert not closing.is_alive()


def test_many_threads_each_get_their_own_answers():
    scheduler = Scheduler(lambda kind, values: [value * 2 for value in values], Budget(tokens=64))
    wrong = []

    def ask_often(start: int) -> None:
        for number in range(start, start + 200):
            got = scheduler.submit("double", [number, -number], [number % 30 + 1, 3]).future.result(TIMEOUT)
            if got != [2 * number, -2 * number]:
                wrong.append((number, got))

    threads = [threading.Thread(target=ask_often, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheduler.close()
    assert wrong == []


def test_empty_texts_run_together_too():
    scheduler = Scheduler(lambda kind, values: values)
    first = scheduler.submit("write", ["", ""], [0, 0])
    assert first.future.result(TIMEOUT) == ["", ""]
    # It lives to answer the next one.
    assert scheduler.submit("write", ["a"], [1]).future.result(TIMEOUT) == ["a"]
    scheduler.close()
