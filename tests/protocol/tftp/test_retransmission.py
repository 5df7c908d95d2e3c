# SPDX-License-Identifier: Apache-2.0
"""The retransmission interval: fixed until a round trip is known, then adaptive between bounds, doubled on loss."""

from __future__ import annotations

import pytest

from dpd.protocol.tftp.retransmission import (
    LOSSY_INTERVAL_S,
    LOSSY_SAMPLES,
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    RetransmissionTimer,
)


def test_starts_at_the_given_interval_and_doubles_to_the_ceiling() -> None:
    timer = RetransmissionTimer(1.0, attempts=6)
    waits = [timer.interval_s()]
    while timer.back_off():
        waits.append(timer.interval_s())
    assert waits == [1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]


def test_adapts_to_a_fast_way_but_not_below_the_floor() -> None:
    timer = RetransmissionTimer(1.0, attempts=6)
    timer.sample(0.0005)
    assert timer.interval_s() == MIN_INTERVAL_S


def test_follows_a_slow_way() -> None:
    timer = RetransmissionTimer(1.0, attempts=6)
    for _ in range(50):
        timer.sample(0.6)
    assert timer.interval_s() == pytest.approx(0.6, rel=0.01)
    timer.sample(30.0)
    assert timer.interval_s() == MAX_INTERVAL_S


def test_a_longer_timeout_option_raises_the_ceiling() -> None:
    assert RetransmissionTimer(30.0, attempts=1).interval_s() == 30.0


def test_quick_repetitions_do_not_use_up_the_patience() -> None:
    timer = RetransmissionTimer(1.0, attempts=2)
    timer.sample(0.0005)
    waits = [timer.interval_s()]
    while timer.back_off():
        waits.append(timer.interval_s())
    assert waits[:3] == [0.02, 0.04, 0.08]
    assert [wait for wait in waits if wait >= 1.0] == [1.28, 2.56, 4.0]  # two attempts, and the wait behind the second


def test_a_client_that_is_often_away_is_waited_for_and_a_loss_changes_little() -> None:
    timer = RetransmissionTimer(1.0, attempts=2)
    for _ in range(10):
        timer.sample(0.001)
    timer.doubt(0.021)  # sent again after 20 ms, and answered at once
    assert timer.interval_s() < 0.03
    for _ in range(3):
        timer.doubt(0.06)
    assert timer.interval_s() > 0.06
    timer.doubt(30.0)
    assert timer.interval_s() < 1.0
    for _ in range(40):
        timer.sample(0.001)
    assert timer.interval_s() == MIN_INTERVAL_S


def test_progress_gives_all_attempts_back() -> None:
    timer = RetransmissionTimer(1.0, attempts=1)
    assert timer.back_off()
    assert not timer.back_off()
    timer.progress()
    assert timer.interval_s() == 1.0
    assert timer.back_off()


def test_a_way_that_loses_is_repeated_on_sooner_once_it_is_known_to_be_fast() -> None:
    timer = RetransmissionTimer(1.0, attempts=6)
    for _ in range(LOSSY_SAMPLES - 1):
        timer.sample(0.0002)
    timer.back_off()
    timer.progress()
    timer.sample(0.0002)
    assert timer.interval_s() == MIN_INTERVAL_S  # the loss came before it was known
    timer.back_off()
    timer.progress()
    timer.sample(0.0002)
    assert timer.interval_s() == LOSSY_INTERVAL_S
    for _ in range(20):
        timer.sample(0.01)
    assert timer.interval_s() > 0.01


def test_the_first_repetition_comes_early_and_those_behind_it_as_ever() -> None:
    timer = RetransmissionTimer(1.0, attempts=2, first_s=0.02)
    assert timer.known_s is None
    waits = [timer.interval_s()]
    while timer.back_off():
        waits.append(timer.interval_s())
    assert waits == [0.02, 1.0, 2.0, 4.0]  # two attempts beside the early one, which needs no patience


def test_who_has_lost_before_is_repeated_to_sooner_from_the_start() -> None:
    for first_s, interval_s in ((0.008, 0.008), (0.001, LOSSY_INTERVAL_S), (0.2, MIN_INTERVAL_S)):
        timer = RetransmissionTimer(1.0, attempts=2, first_s=first_s)
        timer.sample(0.0002)
        assert timer.interval_s() == interval_s


def test_no_first_wait_is_longer_than_the_first_interval() -> None:
    timer = RetransmissionTimer(1.0, attempts=2, first_s=3.0)
    assert timer.interval_s() == 1.0
    timer.assume()
    assert timer.known_s is None


def test_an_answer_to_one_of_two_copies_ends_the_long_waits() -> None:
    timer = RetransmissionTimer(1.0, attempts=2, first_s=0.2)
    timer.back_off()
    timer.progress()
    timer.assume()
    assert 0.2 < timer.interval_s() <= 0.4
    timer.assume()
    timer.sample(0.001)
    assert timer.known_s == timer.interval_s()
