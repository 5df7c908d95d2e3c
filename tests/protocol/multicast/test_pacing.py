# SPDX-License-Identifier: Apache-2.0
"""The ceiling, the credit, and for how long a slow receiver may keep the others."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dpd.protocol.multicast.pacing import PEAK, STALL_S, WAIT_SHARE, Allowance, Credit, RoundTrip, Standing, TokenBucket

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


def wait_for(standing: Standing, *, seconds: float) -> float:
    """How long a session that looks every tick is kept, up to `seconds`."""
    waited = 0.0
    while standing.waits(TICK_S) and waited < seconds:
        waited += TICK_S
    return waited


def test_who_makes_no_progress_is_waited_for_once() -> None:
    standing = Standing()
    assert 0.9 * STALL_S < wait_for(standing, seconds=60) <= STALL_S
    assert standing.is_hopeless
    assert wait_for(standing, seconds=60) == 0.0
    standing.progress()
    assert not standing.is_hopeless
    assert wait_for(standing, seconds=60) > 0.9 * STALL_S


def test_the_slow_keep_the_others_for_a_second_and_then_a_share_of_the_time() -> None:
    """Somebody is without room whenever the session looks, and all show progress."""
    allowance = Allowance()
    kept, now = 0.0, 0.0
    while now < 60.0:
        allowance.earn(now)
        while allowance.left_s > 0:
            now += TICK_S
            kept += TICK_S
            allowance.spend(TICK_S, now)
        now += TICK_S  # a few trains leave
    assert kept <= STALL_S + 60 * WAIT_SHARE + TICK_S
    assert kept >= STALL_S + 0.8 * 59 * WAIT_SHARE


def test_no_more_is_ever_earned_than_a_second() -> None:
    allowance = Allowance()
    allowance.earn(3600.0)
    assert allowance.left_s == STALL_S
    allowance.spend(STALL_S, 3601.0)
    allowance.earn(3601.0)
    assert allowance.left_s == 0.0
    allowance.earn(3611.0)
    assert allowance.left_s == pytest.approx(10 * WAIT_SHARE)


def test_the_round_trip_is_smoothed() -> None:
    round_trip = RoundTrip()
    round_trip.update(0.008)
    assert round_trip.smoothed_s == 0.008
    round_trip.update(0.016)
    assert round_trip.smoothed_s == pytest.approx(0.009)


def test_a_wake_up_some_milliseconds_late_loses_no_rate() -> None:
    rate, size = 1e9, 48_000
    bucket = TokenBucket(rate, 2 * size, 0.0)
    now, sent = 0.0, 0
    while now < 1.0:
        now = max(bucket.ready_at(now), now)
        if int(now * 50) != int((now - 1e-4) * 50):  # the thread sleeps 8 ms too long, 50 times a second
            now += 0.008
        bucket.spend(size)
        sent += size
    assert sent * 8 == pytest.approx(rate * now, rel=0.02)
