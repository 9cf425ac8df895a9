"""Whose turn it is: batches by budget and length, fair to long and short."""

from __future__ import annotations

import itertools

import pytest

from kzoo.apps.serving.waiting import Budget, Item, Ticket, Waiting

COUNTER = itertools.count()


def add(waiting: Waiting, *sizes: int, kind: str = "embed", deadline: float = 99.0) -> Ticket:
    """Add a request with items of these sizes, after all that came before."""
    ticket = Ticket(kind, len(sizes), next(COUNTER), deadline)
    waiting.add(Item(ticket, place, f"{kind}{size}", size) for place, size in enumerate(sizes))
    return ticket


def sizes(items: list[Item]) -> list[int]:
    return [item.size for item in items]


@pytest.mark.parametrize(
    ("count", "longest", "held"),
    [(1, 9_999, True), (8, 128, True), (9, 128, False), (65, 1, False), (2, 512, True), (2, 600, False)],
)
def test_a_budget_bounds_tokens_items_and_squares(count, longest, held):
    assert Budget(tokens=1024, items=64).holds(count, longest) is held


def test_items_of_one_length_run_together_up_to_the_budget_oldest_first():
    waiting = Waiting(Budget(tokens=64))
    tickets = [add(waiting, 16) for _ in range(6)]
    first = waiting.take()
    assert [item.ticket for item in first] == tickets[:4]
    assert (waiting.items, waiting.tokens) == (2, 32)
    assert [item.ticket for item in waiting.take()] == tickets[4:]
    assert (waiting.items, waiting.tokens) == (0, 0)


def test_shorter_ones_join_while_little_is_padding():
    waiting = Waiting(Budget())
    add(waiting, 100, 98)
    for _ in range(35):  # until the two are due before what comes then
        add(waiting, 4)
        assert sizes(waiting.take()) == [4]
    add(waiting, 60, 8)
    assert sizes(waiting.take()) == [60, 98, 100]  # 16% padding; with the 8 it would be a third
    assert sizes(waiting.take()) == [8]


def test_longer_ones_never_make_the_oldest_padded():
    waiting = Waiting(Budget())
    add(waiting, 8)
    add(waiting, 100)
    assert sizes(waiting.take()) == [8]
    assert sizes(waiting.take()) == [100]


def test_what_is_asked_differently_runs_apart():
    waiting = Waiting(Budget())
    add(waiting, 8, kind="greedy")
    add(waiting, 8, kind="beams")
    add(waiting, 8, kind="greedy")
    assert [item.value for item in waiting.take()] == ["greedy8", "greedy8"]
    assert [item.value for item in waiting.take()] == ["beams8"]


def test_long_ones_do_not_keep_a_short_one_waiting():
    waiting = Waiting(Budget(tokens=512))
    add(waiting, *[512] * 50)
    waiting.take()
    short = add(waiting, 10)
    assert any(item.ticket is short for item in waiting.take() + waiting.take())


def test_short_ones_do_not_keep_a_long_one_waiting():
    waiting = Waiting(Budget(tokens=64, items=4))
    add(waiting, *[10] * 40)
    waiting.take()
    long = add(waiting, 64)
    others = 0
    while all(item.ticket is not long for item in waiting.take()):
        add(waiting, *[10] * 4)  # there is always a short one
        others += 1
        assert others <= 36  # batches of four, until each of 37 could have had half of 64 tokens


def test_a_long_one_goes_after_later_short_ones_by_half_its_share():
    waiting = Waiting(Budget(tokens=256, items=1))
    long = add(waiting, 200)
    before = 0
    while True:
        add(waiting, 20)
        (item,) = waiting.take()
        if item.ticket is long:
            break
        before += 1
    # Two wait at any time: the clock moves by 10 with each short one, due 10 after it came; the long one at 100.
    assert before == 9


def test_one_that_comes_later_has_saved_nothing_up():
    waiting = Waiting(Budget(tokens=100))
    add(waiting, *[100] * 10)
    for _ in range(8):
        waiting.take()
    add(waiting, *[90] * 10)
    assert sizes(waiting.take()) == [100]


def test_what_was_cancelled_leaves():
    waiting = Waiting(Budget(tokens=20))
    gone, stays = add(waiting, 10, 10, 40), add(waiting, 10)
    assert waiting.take()
    waiting.drop(gone)
    assert (waiting.items, waiting.tokens) == (1, 10)
    assert [item.ticket for item in waiting.take()] == [stays]
    assert waiting.items == 0


def test_what_is_late_is_named_once():
    waiting = Waiting(Budget())
    late = add(waiting, 10, 90, deadline=5.0)
    add(waiting, 10, deadline=6.0)
    assert waiting.expired(4.9) == []
    assert waiting.expired(5.0) == [late]
