# SPDX-License-Identifier: Apache-2.0
"""How much parity comes unasked: nothing where nothing is lost, and soon what the network takes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.promise import MAX_PROMISED, Promise

LAG_SLABS = 3  # between a slab and what is known of it: a back-off of 50 ms at 1 Gbit/s
NOTHING = [0] * COLUMNS
Demand = Callable[[], int]


def binomial(rng: random.Random, loss: float) -> int:
    """Parity symbols that one receiver needs of one column."""
    got = lost = 0
    while got < ROWS:
        if rng.random() < loss:
            lost += 1
        else:
            got += 1
    return lost


def demand(receivers: int, loss: float) -> Demand:
    """Draws the demand of a column: the most that any of the receivers needs; from 400 columns made beforehand."""
    rng = random.Random(f"{receivers}/{loss}")
    alone = [binomial(rng, loss) for _ in range(4000)]
    columns = [max(rng.choices(alone, k=receivers)) for _ in range(400)]
    return lambda: rng.choice(columns)


class Stream:
    """Slabs one behind the other, whose demand is learnt LAG_SLABS later."""

    def __init__(self, receivers: int = 1000) -> None:
        self.promise = Promise()
        self.promise.receivers = receivers
        self.promises: list[int] = []
        self.in_vain: list[int] = []  # symbols per slab
        self.asking: list[int] = []  # columns per slab
        self._unlearnt: list[tuple[int, list[int]]] = []

    def send(self, slabs: int, draw: Demand) -> None:
        for _ in range(slabs):
            promised = self.promise.rows
            needed = [draw() for _ in range(COLUMNS)]
            self._unlearnt.append((promised, [max(0, n - promised) for n in needed]))
            self.promises.append(promised)
            self.in_vain.append(sum(max(0, promised - n) for n in needed))
            self.asking.append(sum(n > promised for n in needed))
            if len(self._unlearnt) > LAG_SLABS:
                self.promise.learn(*self._unlearnt.pop(0))


def nothing() -> int:
    return 0


def test_it_starts_at_nothing_and_stays_there_without_loss() -> None:
    stream = Stream()
    stream.send(100, nothing)
    assert set(stream.promises) == {0}


@pytest.mark.parametrize(
    ("receivers", "loss", "low", "high"),
    [
        pytest.param(1, 0.01, 0, 0, id="alone, 1 %"),
        pytest.param(1, 0.05, 1, 2, id="alone, 5 %"),
        pytest.param(4, 0.001, 0, 0, id="4, 0.1 %"),
        pytest.param(4, 0.01, 0.5, 1, id="4, 1 %"),
        pytest.param(16, 0.01, 2, 3, id="16, 1 %"),
        pytest.param(200, 0.01, 4, 5, id="200, 1 %"),
    ],
)
def test_it_finds_what_will_be_asked_for_and_sends_little_in_vain(
    receivers: int, loss: float, low: float, high: float
) -> None:
    stream = Stream(receivers)
    stream.send(150, demand(receivers, loss))
    settled = stream.promises[20:]
    assert low <= sum(settled) / len(settled) <= high
    assert sum(stream.in_vain[20:]) <= 0.001 * ROWS * COLUMNS * len(settled)


def test_it_spares_most_of_the_asking() -> None:
    rng = random.Random(1)
    stream = Stream()
    stream.send(150, lambda: 6 + (rng.random() < 0.1))
    assert stream.promises.count(6) > 110
    assert sum(stream.asking[10:]) < 0.25 * 140 * COLUMNS


@pytest.mark.parametrize("before", [1, 6, 30])
def test_it_is_nothing_again_some_tens_of_slabs_after_loss_ends(before: int) -> None:
    rng = random.Random(1)
    stream = Stream()
    stream.send(60, lambda: before + (rng.random() < 0.5))
    assert stream.promises[-1] == before
    stream.send(40, nothing)
    assert stream.promises[-1] == 0


def test_it_follows_loss_that_grows() -> None:
    stream = Stream()
    rng = random.Random(1)
    stream.send(60, lambda: 2 + (rng.random() < 0.5))
    stream.send(30, lambda: 9 + (rng.random() < 0.5))
    assert stream.promises[-1] == 9


def test_it_follows_loss_that_shrinks_though_somebody_always_asks() -> None:
    rng = random.Random(1)
    stream = Stream()
    stream.send(60, lambda: 9)
    stream.send(300, lambda: 10 if rng.random() < 0.02 else 3)
    assert sum(stream.promises[-50:]) / 50 < 6


def test_a_member_that_always_asks_for_everything_does_not_raise_it_without_bound() -> None:
    stream = Stream()
    stream.send(60, lambda: 127)
    assert max(stream.promises) == MAX_PROMISED


def test_a_short_slab_gets_less_and_teaches_nothing() -> None:
    promise = Promise()
    for _ in range(10):
        promise.learn(0, [8] * COLUMNS)
    assert promise.rows_for(ROWS) == 8
    assert promise.rows_for(ROWS // 2) == 4
    assert promise.rows_for(3) == 0
    promise.note_sent(7, ROWS // 2, 4, known_at=1.0)
    assert 7 not in promise


def test_a_slab_is_learnt_from_when_its_time_has_come() -> None:
    promise = Promise()
    promise.note_sent(7, ROWS, 0, known_at=1.0)
    promise.settle(lambda slab: [slab] * COLUMNS, 0.9)
    assert promise.rows == 0
    assert 7 in promise
    promise.settle(lambda slab: [slab] * COLUMNS, 1.0)
    assert promise.rows == 7
    assert 7 not in promise


@given(st.lists(st.tuples(st.integers(0, MAX_PROMISED), st.lists(st.integers(0, 127), min_size=32, max_size=32))))
def test_whatever_is_learnt_the_promise_stays_in_bounds(slabs: list[tuple[int, list[int]]]) -> None:
    promise = Promise()
    promise.learn(0, NOTHING)
    for promised, asked in slabs:
        promise.learn(min(promised, promise.rows), asked)
        assert 0 <= promise.rows <= MAX_PROMISED
