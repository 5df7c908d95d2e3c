# SPDX-License-Identifier: Apache-2.0
"""How often a group of any size reports, and what a receiver says it drains."""

from __future__ import annotations

import random

import pytest

from dpd.protocol.multicast.reporting import FAST_REPORT_S, Drain, ReportTimer, believable_echo


def timer_of(members: int, *, is_representative: bool, now: float = 0.0, seed: int = 1) -> ReportTimer:
    timer = ReportTimer(now, random.Random(seed))
    timer.members = members
    timer.note_sent(0, 0, is_representative, now)
    return timer


@pytest.mark.parametrize(("members", "expected_s"), [(1, 1.0), (100, 1.0), (500, 2.0), (1000, 4.0), (60_000, 4.0)])
def test_the_slow_ones_report_less_often_in_a_large_group(members: int, expected_s: float) -> None:
    waits = [timer_of(members, is_representative=False, seed=seed).due for seed in range(400)]
    assert sum(waits) / len(waits) == pytest.approx(expected_s, rel=0.03)
    assert min(waits) >= 0.75 * expected_s
    assert max(waits) <= 5.0 < 10.0, "the sender gives up a member after 10 s"


def test_a_thousand_who_joined_at_once_do_not_report_at_once() -> None:
    """Ten reports later no tenth of a second holds more than four times its share."""
    times = []
    for seed in range(1000):
        timer = timer_of(1000, is_representative=False, seed=seed)
        for _ in range(9):
            timer.note_sent(0, 0, False, timer.due)
        times.append(timer.due)
    tenths = [int(time * 10) for time in times]
    assert max(tenths.count(tenth) for tenth in set(tenths)) <= 4 * 1000 / 40


def test_a_representative_reports_at_once_in_a_small_group_and_50_ms_apart_among_a_thousand() -> None:
    for members, least_s in [(10, 0.0005), (1000, 0.05)]:
        timer = timer_of(members, is_representative=True)
        assert timer.due == FAST_REPORT_S
        timer.of_window(300, 1024, 0.0001)
        assert timer.due == pytest.approx(least_s)


def test_a_window_that_is_half_used_up_is_told_at_once_in_any_group() -> None:
    timer = timer_of(1000, is_representative=True)
    timer.of_window(512, 1024, 0.006)
    assert timer.due == 0.006


def test_news_are_told_soon_but_not_each_by_itself() -> None:
    timer = timer_of(10, is_representative=True)
    timer.soon(0.001)
    assert timer.due == 0.005
    timer.soon(0.004)
    assert timer.due == 0.005


@pytest.mark.parametrize(("members", "nack_s"), [(1, 0.002), (100, 0.005), (1000, 0.05)])
def test_a_waiting_sender_hears_everybody_but_not_more_than_it_can_read(members: int, nack_s: float) -> None:
    """BEATs with END_OF_PASS every 20 ms, for 10 s."""
    count = 0
    sample = min(members, 50)
    rng = random.Random(1)
    for seed in range(sample):
        timer = timer_of(members, is_representative=False, seed=seed)
        for tick in range(10_000):
            now = tick / 1000
            if tick % 20 == 0:
                timer.answer_end(now, nack_s, rng)
            if timer.due <= now:
                timer.note_sent(0, 0, False, now)
                count += 1
    per_s = count / sample * members / 10
    assert count / sample >= 10 / (2 * (members / 1000 + 1)), "and everybody is heard"
    assert per_s <= 1000


def test_the_latest_symbols_time_is_repeated_where_the_beats_bear_it_out() -> None:
    assert believable_echo((5_000, 1.0), None) == (5_000, 1.0)
    assert believable_echo((1_050_000, 2.05), (1_000_000, 2.0)) == (1_050_000, 2.05)
    assert believable_echo((20_000, 2.05), (2**32 - 30_000, 2.0)) == (20_000, 2.05), "the clock wraps"
    for forged in (0, 4_000_000, 2**31, 2**32 - 1):
        assert believable_echo((forged, 2.05), (2_500_000, 2.0)) == (2_500_000, 2.0)


def test_drain_is_what_was_stored_per_second_lately() -> None:
    drain = Drain()
    assert drain.kib_s(0.0) == 0
    drain.begin(10.0)
    for tenth in range(1, 101):
        drain.add(1 << 20)
        latest = drain.kib_s(10 + tenth / 10)
    assert latest == pytest.approx(10 * 1024, rel=0.02)
    for tenth in range(101, 301):
        drain.add(1 << 19)
        latest = drain.kib_s(10 + tenth / 10)
    assert latest == pytest.approx(5 * 1024, rel=0.05)


def test_the_time_before_the_first_symbol_does_not_count() -> None:
    drain = Drain()
    drain.kib_s(100.0)
    drain.begin(200.0)
    drain.add(2 << 20)
    assert drain.kib_s(201.0) == 2048
