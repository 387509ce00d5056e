"""The queue: bounded, fair, and nothing is lost or counted twice."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.serve.estimate import cut
from halbert.serve.queue import FairQueue, Full


@dataclasses.dataclass(eq=False)
class Item:
    client: str
    tokens: int
    waiting: bool = False


def test_first_come_first_served_within_a_client():
    queue: FairQueue[Item] = FairQueue(100, 10)
    items = [Item("a", 5) for _ in range(4)]
    queue.put(items)
    assert queue.take(10) == items[:2] and queue.take(100) == items[2:] and not queue and queue.tokens == 0


def test_a_greedy_client_does_not_keep_others_waiting():
    queue: FairQueue[Item] = FairQueue(10_000, 1e9)
    queue.put([Item("greedy", 10) for _ in range(50)])
    queue.take(100)
    queue.put([Item("late", 10) for _ in range(3)])
    # The latecomer is not made to wait for what stood there, nor is it given what the other had before.
    assert sorted(item.client for item in queue.take(60)) == ["greedy"] * 3 + ["late"] * 3
    assert queue.tokens == 500 + 30 - 100 - 60


def test_shares_are_by_tokens_not_by_requests():
    queue: FairQueue[Item] = FairQueue(10_000, 1e9)
    queue.put([Item("long", 50) for _ in range(20)])
    queue.put([Item("short", 5) for _ in range(200)])
    taken = queue.take(500)
    share = sum(item.tokens for item in taken if item.client == "long") / sum(item.tokens for item in taken)
    assert 0.4 < share < 0.6


def test_what_does_not_fit_is_refused_whole_and_says_for_how_long():
    queue: FairQueue[Item] = FairQueue(100, 10, pace=10)
    queue.put([Item("a", 60)])
    with pytest.raises(Full, match="60 tokens are before these 60, and 100 may wait") as refused:
        queue.put([Item("b", 30), Item("b", 30)])
    assert refused.value.seconds == pytest.approx(2.0)
    assert queue.tokens == 60 and len(queue) == 1
    queue.put([Item("b", 40)])
    # Even the largest request can be had of an empty queue.
    empty: FairQueue[Item] = FairQueue(100, 10)
    empty.put([Item("a", 500)])
    assert empty.take(1)[0].tokens == 500


def test_waiting_is_bounded_by_time_too():
    queue: FairQueue[Item] = FairQueue(1000, 2.0, pace=10)
    queue.put([Item("a", 30)])
    with pytest.raises(Full, match=r"3\.0 s long") as refused:
        queue.put([Item("a", 1)])
    assert refused.value.seconds == pytest.approx(1.0)
    queue.observe(100, 1.0, 100)  # it turned out to be faster
    queue.put([Item("a", 1)])


def test_the_pace_is_that_of_full_gulps():
    queue: FairQueue[Item] = FairQueue(1000, 2.0, pace=10_000)
    for _ in range(300):  # single short texts take their time, and say nothing of what many take
        queue.observe(5, 0.01, 4096)
    assert queue.pace > 9_000
    for _ in range(30):
        queue.observe(4096, 4.096, 4096)
    assert queue.pace == pytest.approx(1000, rel=0.05)


def test_what_nobody_waits_for_makes_room_at_once_and_is_never_taken():
    queue: FairQueue[Item] = FairQueue(100, 1e9)
    first, second = Item("a", 60), Item("a", 40)
    queue.put([first, second])
    queue.drop(first)
    queue.drop(first)
    assert queue.tokens == 40 and len(queue) == 1
    queue.put([Item("b", 60)])
    assert first not in queue.take(1000) and queue.tokens == 0 and not queue


def test_what_was_taken_and_not_done_goes_first_again():
    queue: FairQueue[Item] = FairQueue(100, 1e9)
    items = [Item("a", 10) for _ in range(3)]
    queue.put(items)
    taken = queue.take(20)
    queue.put_back(taken)
    assert queue.tokens == 30 and queue.take(100) == items


def test_who_asks_for_too_much_locks_nobody_out():
    queue: FairQueue[Item] = FairQueue(200, 2.0, pace=100)
    queue.put([Item("greedy", 50) for _ in range(40)])  # of an empty queue everything can be had
    with pytest.raises(Full):
        queue.check(1, "greedy")
    queue.check(10, "late")
    queue.put([Item("late", 10)])
    assert [item.client for item in queue.take(60)] == ["greedy", "late"]
    queue.put([Item("late", 10) for _ in range(9)])
    with pytest.raises(Full, match="240 tokens"):  # what would be served before it counts, its own included
        queue.put([Item("late", 60)])


def test_what_was_put_back_has_its_turn_where_it_was():
    queue: FairQueue[Item] = FairQueue(10_000, 1e9)
    queue.put([Item("a", 100) for _ in range(20)])
    queue.put([Item("b", 100)])
    taken = queue.take(1000)  # b's only one is among them: its line is gone
    queue.put_back(taken)
    queue.put([Item("b", 100) for _ in range(20)])
    clients = [item.client for item in queue.take(1000)]
    assert clients.count("a") >= 3 and clients.count("b") >= 3


def test_what_nobody_waits_for_is_not_kept():
    queue: FairQueue[Item] = FairQueue(10_000, 1e9)
    for _ in range(100):
        item = Item("a", 5)
        queue.put([item])
        queue.drop(item)
    assert not queue and not queue._lines and not queue._turns
    kept = Item("b", 5)
    queue.put([kept])
    for _ in range(100):
        item = Item("a", 5)
        queue.put([item])
        queue.drop(item)
    assert sum(len(line.items) for line in queue._lines.values()) <= 3 and queue.take(100) == [kept]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 40), min_size=1, max_size=5)), max_size=30),
    st.lists(st.integers(1, 100), min_size=1, max_size=30), st.randoms(use_true_random=False),
)  # fmt: skip
def test_every_item_is_taken_once_or_was_refused_or_dropped(puts, budgets, draw):
    queue: FairQueue[Item] = FairQueue(200, 1e9)
    accepted, dropped, taken = [], [], []
    for i, (client, sizes) in enumerate(puts):
        items = [Item(client, size) for size in sizes]
        try:
            queue.put(items)
            accepted += items
        except Full:
            assert queue.tokens + sum(sizes) > 200
        if draw.random() < 0.3 and accepted:
            item = draw.choice(accepted)
            if item.waiting:
                queue.drop(item)
                dropped.append(item)
        if draw.random() < 0.5:
            budget = budgets[i % len(budgets)]
            some = queue.take(budget)
            assert sum(item.tokens for item in some) <= max(budget, some[0].tokens if some else 0)
            taken += some
        assert queue.tokens == sum(item.tokens for item in accepted if item.waiting) >= 0
    while queue:
        taken += queue.take(64)
    assert len(taken) == len(set(map(id, taken)))
    assert {id(i) for i in taken} == {id(i) for i in accepted} - {id(i) for i in dropped}


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 60))
def test_large_requests_are_cut(tokens, most):
    runs = cut(tokens, most)
    assert [i for start, stop, _ in runs for i in range(start, stop)] == list(range(len(tokens)))
    for start, stop, total in runs:
        assert total == sum(tokens[start:stop]) and stop > start
        assert total <= most or stop - start == 1
