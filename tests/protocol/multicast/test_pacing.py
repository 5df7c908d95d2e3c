# SPDX-License-Identifier: Apache-2.0
"""The ceiling, the credit, and for how long a slow receiver may keep the others."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dpd.protocol.multicast.pacing import PEAK, STALL_S, WAIT_SHARE, Credit, RoundTrip, Standing, TokenBucket

TRAIN = 48_000
TICK_S = 1 / 64  # exact in binary, so that sums are


def send(bucket: TokenBucket, seconds: float) -> int:
    """Bytes that leave in this time when a train is sent as soon as it may."""
    now, sent = 0.0, 0
    while (now := bucket.ready_at(now)) <= seconds:
        bucket.spend(TRAIN)
        sent += TRAIN
    return sent


@pytest.mark.parametrize("rate_bit_s", [1e6, 1e8, 1e9, 1e10])
def test_the_ceiling_holds_over_time(rate_bit_s: float) -> None:
    seconds = 2000 * TRAIN * 8 / rate_bit_s
    assert send(TokenBucket(rate_bit_s, 2 * TRAIN, 0.0), seconds) * 8 / seconds == pytest.approx(rate_bit_s, rel=0.01)


def test_no_ceiling_never_waits() -> None:
    bucket = TokenBucket(0, TRAIN, 0.0)
    bucket.spend(1 << 40)
    assert bucket.ready_at(5.0) == 5.0


def test_silence_earns_no_more_than_the_bucket_holds() -> None:
    bucket = TokenBucket(1e6, 2 * TRAIN, 0.0)
    assert bucket.ready_at(1000.0) == 1000.0
    now, sent = 1000.0, 0
    while (now := bucket.ready_at(now)) < 1010.0:
        bucket.spend(TRAIN)
        sent += TRAIN
    assert sent == pytest.approx(10 * 1e6 / 8 + 2 * TRAIN, abs=TRAIN)


def test_what_was_missed_is_made_good_at_twice_the_rate_and_not_at_once() -> None:
    bucket = TokenBucket(1e6, 4 * TRAIN, 0.0)
    now, times = 1000.0, []
    for _ in range(14):
        now = bucket.ready_at(now)
        bucket.spend(TRAIN)
        times.append(now)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:4] == pytest.approx([TRAIN * 8 / 1e6 / PEAK] * 4)
    assert gaps[-1] == pytest.approx(TRAIN * 8 / 1e6)


def test_trains_are_as_long_as_the_rate_allows() -> None:
    bucket = TokenBucket(1e9, TRAIN, 0.0)
    assert bucket.train_symbols == 32
    bucket.set_rate(100e6, 1.0)
    assert bucket.train_symbols == 4


def test_a_new_ceiling_counts_from_now() -> None:
    bucket = TokenBucket(1e6, TRAIN, 0.0)
    bucket.spend(2 * TRAIN)
    bucket.set_rate(1e9, 0.0)
    assert bucket.ready_at(0.0) == pytest.approx(TRAIN * 8 / 1e9)
    bucket.set_rate(0, 0.0)
    assert bucket.ready_at(0.0) == 0.0


def test_credit_is_what_was_sent_and_not_yet_seen() -> None:
    credit = Credit(limit=100, seen=-1)
    assert credit.allows(99)
    assert not credit.allows(100)
    assert credit.update(10)
    assert credit.allows(110)
    assert not credit.update(10)
    assert not credit.update(3)
    assert credit.seen == 10


def wait_for(
    standing: Standing, start: float, *, seconds: float, is_shared: bool = False, progress: bool = False
) -> float:
    """How long a session that looks every tick is kept, up to `seconds`."""
    since = now = start
    while standing.waits(since, now, is_shared) and now - start < seconds:
        if progress:
            standing.progress()
        since, now = now, now + TICK_S
    return now - start


@pytest.mark.parametrize("is_shared", [False, True])
def test_who_makes_no_progress_is_waited_for_once(is_shared: bool) -> None:
    standing = Standing()
    assert wait_for(standing, 5.0, seconds=60, is_shared=is_shared) <= STALL_S + TICK_S
    assert wait_for(standing, 100.0, seconds=60, is_shared=is_shared) == 0.0
    standing.progress()
    assert wait_for(standing, 100.5, seconds=60, is_shared=is_shared) > 0.9 * STALL_S


def test_long_silence_before_is_not_held_against_it() -> None:
    """Nothing was sent, so there was nothing to see: the second begins when it keeps the session."""
    assert wait_for(Standing(), 3600.0, seconds=60) > 0.9 * STALL_S


def test_a_slow_one_keeps_the_others_for_a_second_and_then_a_share_of_the_time() -> None:
    """It shows progress all the time, and is without room whenever the session looks."""
    standing = Standing()
    kept, now = 0.0, 0.0
    while now < 60.0:
        waited = wait_for(standing, now, seconds=60, progress=True)
        kept += waited
        now += waited + TICK_S  # one train leaves
        standing.progress()
    assert kept <= STALL_S + 60 * WAIT_SHARE
    assert kept >= 0.9 * 60 * WAIT_SHARE / (1 + WAIT_SHARE)


def test_where_nobody_could_go_on_waiting_costs_nothing() -> None:
    standing = Standing()
    assert wait_for(standing, 0.0, seconds=30, is_shared=True, progress=True) >= 30
    assert wait_for(standing, 31.0, seconds=60, progress=True) > 0.9 * STALL_S


def test_the_round_trip_is_smoothed() -> None:
    round_trip = RoundTrip()
    round_trip.update(0.008)
    assert round_trip.smoothed_s == 0.008
    round_trip.update(0.016)
    assert round_trip.smoothed_s == pytest.approx(0.009)
