# SPDX-License-Identifier: Apache-2.0
"""The ceiling of all pulls: what passes in a time, with one thread and with many, on a virtual clock and on the real one."""

from __future__ import annotations

import math
import threading
import time

import pytest

from dpd.distribution.pulling.rate import BURST_S, RateLimit


class Clock:
    """A clock that runs while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.now += seconds


def limit(clock: Clock, rate: dict[str, float]) -> RateLimit:
    return RateLimit(lambda: rate["bit_s"], clock=clock, wait=clock.wait)


@pytest.mark.parametrize("piece", [1, 1500, 65536, 4 << 20])
def test_over_ten_seconds_the_rate_is_true_however_large_the_pieces(piece: int) -> None:
    clock, taken = Clock(), 0
    some = limit(clock, {"bit_s": 80e6})
    pieces = max(1, min(20_000, 100_000_000 // piece))
    for _ in range(pieces):
        some.take(piece)
        taken += piece
    some.take(0)  # the debt of the last one
    passed = clock.now - 1000.0
    assert taken <= 10e6 * passed + 10e6 * BURST_S + 1
    assert passed <= taken / 10e6 + 0.001


def test_without_a_ceiling_nobody_waits() -> None:
    clock = Clock()
    some = limit(clock, {"bit_s": math.inf})
    for _ in range(100):
        some.take(1 << 30)
    assert clock.now == 1000.0
    assert some.piece_bytes(4 << 20) == 4 << 20
    assert some.window_bytes() is None


def test_a_rest_is_not_saved_up() -> None:
    clock = Clock()
    some = limit(clock, {"bit_s": 8e6})
    clock.now += 3600
    begun = clock.now
    for _ in range(20):
        some.take(100_000)
    some.take(0)
    assert 2.0 - BURST_S - 0.001 <= clock.now - begun <= 2.0


def test_a_new_rate_counts_at_once() -> None:
    clock, rate = Clock(), {"bit_s": 8e3}
    some = limit(clock, rate)
    some.take(100_000)  # 100 s at that rate
    begun = clock.now
    rate["bit_s"] = 8e6
    some.rate_changed()
    some.take(1)
    assert clock.now - begun <= 0.11
    rate["bit_s"] = math.inf
    some.rate_changed()
    some.take(1 << 40)
    assert clock.now - begun <= 0.11


def test_an_hours_end_is_seen_within_a_second_of_waiting() -> None:
    clock, rate = Clock(), {"bit_s": 8e3}
    some = limit(clock, rate)
    some.take(1_000_000)
    rate["bit_s"] = math.inf  # and nobody says so
    some.take(1)
    assert clock.now - 1000.0 <= 1.01


def test_a_wait_can_be_ended() -> None:
    clock = Clock()
    some = limit(clock, {"bit_s": 8e3})
    some.take(1_000_000)

    def cancelled() -> None:
        if clock.now > 1003:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        some.take(1, cancelled)
    assert clock.now < 1005


def test_pieces_are_small_where_the_rate_is() -> None:
    some = limit(Clock(), {"bit_s": 8e6})
    assert some.piece_bytes(4 << 20) == 250_000
    assert some.piece_bytes(1000) == 1000
    assert some.window_bytes() == 500_000
    assert limit(Clock(), {"bit_s": 1000.0}).piece_bytes(4 << 20) == 16384


def test_many_threads_share_one_ceiling_on_the_real_clock() -> None:
    some = RateLimit(lambda: 40e6)
    taken = [0] * 4
    begun = time.monotonic()

    def pull(number: int) -> None:
        while time.monotonic() < begun + 1.0:
            some.take(20_000)
            taken[number] += 20_000

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    passed = time.monotonic() - begun
    assert sum(taken) <= 5e6 * (passed + BURST_S) + 4 * 20_000
    assert sum(taken) >= 0.8 * 5e6 * 1.0
    assert min(taken) > 0
