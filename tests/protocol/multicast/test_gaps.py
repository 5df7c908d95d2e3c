# SPDX-License-Identifier: Apache-2.0
"""When a receiver asks, asks again, is spared a question, and stops asking."""

from __future__ import annotations

import math
import random

import pytest

from dpd.protocol.multicast.gaps import FIRST_RETRY_S, MAX_RETRY_S, Gaps, random_backoff

PATIENCE_S = 0.1


def ask(gaps: Gaps, slab: int, at: float, lacking: int = 10, patience_s: float = PATIENCE_S) -> None:
    gaps.ask(slab, at, 0.0, patience_s, lacking)


def take(gaps: Gaps, now: float, least_s: float = 0.0, limit: int = 32, lacking: int = 10) -> list[int]:
    """Ask for what is due, as the receiver does."""
    due = gaps.take_due(now, least_s, limit)
    for slab in due:
        gaps.note_asked(slab, now, lacking)
    return due


@pytest.fixture
def gaps() -> Gaps:
    gaps = Gaps()
    for slab in (7, 3, 5):
        gaps.ask(slab, 0.0, slab / 10, PATIENCE_S, 10)
    return gaps


def test_a_slab_is_due_at_its_time_and_not_before(gaps: Gaps) -> None:
    assert gaps.next_due() == 0.3
    assert take(gaps, 0.29) == []
    assert take(gaps, 0.5) == [3, 5]


def test_no_more_are_taken_than_a_nack_holds(gaps: Gaps) -> None:
    assert take(gaps, 1.0, limit=2) == [7, 3]
    assert take(gaps, 1.0, limit=2) == [5]
    assert take(gaps, 1.0, limit=2) == []


def test_who_gets_no_answer_asks_ever_more_slowly_but_never_stops() -> None:
    gaps = Gaps()
    ask(gaps, 0, 0.0)
    waits = []
    for _ in range(12):
        now = gaps.next_due()
        assert take(gaps, now) == [0]
        waits.append(gaps.next_due() - now)
    assert waits == pytest.approx([min(FIRST_RETRY_S * 2**i, MAX_RETRY_S) for i in range(12)])


def test_in_a_large_group_the_answer_takes_longer(gaps: Gaps) -> None:
    take(gaps, 0.3, least_s=0.1)
    assert take(gaps, 0.39, least_s=0.1) == []
    assert take(gaps, 0.41, least_s=0.1) == [3]


def test_repairs_that_brought_something_begin_a_new_round_with_the_short_wait(gaps: Gaps) -> None:
    for now in (1.0, 2.0, 3.0):
        take(gaps, now)
    ask(gaps, 3, 4.0, lacking=9)
    take(gaps, 4.0, lacking=9)
    assert gaps.next_due() == pytest.approx(4.0 + FIRST_RETRY_S)


def test_repairs_that_brought_nothing_are_no_reason_to_ask_at_once() -> None:
    """Ends of bursts are not signed: whoever forges them must not make a group ask without pause."""
    gaps = Gaps()
    ask(gaps, 0, 0.0)
    asked = 0
    for millisecond in range(1000):
        now = millisecond / 1000
        asked += len(take(gaps, now))
        ask(gaps, 0, now)
    assert 40 <= asked <= 1.0 / FIRST_RETRY_S + 1


def test_what_is_complete_is_not_asked_for(gaps: Gaps) -> None:
    for slab in (3, 5, 7, 9):
        gaps.drop(slab)
    assert 3 not in gaps
    assert gaps.next_due() == math.inf
    assert take(gaps, 9.0) == []


# ---- being spared


def test_an_announcement_puts_a_question_off_once() -> None:
    gaps = Gaps()
    gaps.ask(0, 0.0, 0.01, PATIENCE_S, 10)
    assert gaps.put_off(0, 0.005, PATIENCE_S)
    assert gaps.next_due() == pytest.approx(0.105)
    assert not gaps.put_off(0, 0.1, PATIENCE_S)
    assert gaps.next_due() == pytest.approx(0.105)


def test_an_announcement_shows_that_the_question_was_heard() -> None:
    gaps = Gaps()
    ask(gaps, 0, 0.0)
    take(gaps, 0.0)
    assert not gaps.put_off(0, 0.01, PATIENCE_S), "it was asked, so nothing was spared"
    assert gaps.next_due() == pytest.approx(0.11)


def test_who_has_not_asked_yet_keeps_its_time_when_a_burst_of_repairs_ends() -> None:
    gaps = Gaps()
    gaps.ask(0, 0.0, 0.03, PATIENCE_S, 10)
    gaps.ask(0, 0.01, 0.05, PATIENCE_S, 8)
    assert gaps.next_due() == 0.03
    gaps.ask(0, 0.02, 0.001, PATIENCE_S, 6)
    assert gaps.next_due() == 0.03


def test_the_end_of_what_was_announced_or_promised_ends_the_wait_for_it() -> None:
    for is_promised in (False, True):
        gaps = Gaps()
        gaps.ask(0, 0.0, 0.01, PATIENCE_S, 10, is_promised)
        assert is_promised or gaps.put_off(0, 0.005, PATIENCE_S)
        assert gaps.next_due() >= 0.1
        gaps.ask(0, 0.02, 0.004, PATIENCE_S, 3)
        assert gaps.next_due() == pytest.approx(0.024)


def test_nothing_is_announced_to_who_lacks_nothing() -> None:
    assert not Gaps().put_off(4, 0.0, PATIENCE_S)


def test_ends_and_announcements_without_end_delay_the_question_by_one_round_at_most() -> None:
    gaps = Gaps()
    gaps.ask(0, 0.0, 0.01, PATIENCE_S, 10)
    for millisecond in range(200):
        now = millisecond / 1000
        if take(gaps, now):
            assert now <= 0.01 + PATIENCE_S + 0.001
            return
        gaps.ask(0, now, 0.01, PATIENCE_S, 10)
        gaps.put_off(0, now, PATIENCE_S)
    pytest.fail("it was never asked")


def test_a_slab_that_still_fills_is_let_come_and_one_that_stopped_is_asked_for() -> None:
    gaps = Gaps()
    gaps.ask(0, 0.0, 0.002, PATIENCE_S, 1000)
    for step in range(1, 50):
        gaps.let_come(0, step * 0.002, 0.002, 1000 - 10 * step)
        assert take(gaps, step * 0.002) == []
    gaps.let_come(0, 0.1, 0.002, 510)
    assert take(gaps, 0.1) == [0]


def test_patience_grows_with_the_time_that_answers_take() -> None:
    gaps = Gaps()
    assert gaps.patience_s(0.002) == FIRST_RETRY_S
    for turn in range(40):
        ask(gaps, turn, float(turn))
        take(gaps, float(turn))
        ask(gaps, turn, turn + 0.06, lacking=3)
    assert gaps.patience_s(0.002) == pytest.approx(2 * (0.06 + 0.002), rel=0.05)
    assert gaps.patience_s(10.0) == MAX_RETRY_S


# ---- back-off


def test_who_is_alone_waits_for_nobody() -> None:
    assert random_backoff(random.Random(1), 0.05, 1) == 0.0


@pytest.mark.parametrize("members", [2, 10, 1000, 60_000])
def test_the_back_off_is_the_truncated_exponential_of_rfc_5401(members: int) -> None:
    rng, longest_s, count = random.Random(1), 0.05, 20_000
    drawn = sorted(random_backoff(rng, longest_s, members) for _ in range(count))
    assert drawn[0] >= 0.0
    assert drawn[-1] <= longest_s
    rate = math.log(members) + 1
    for share in (0.1, 0.5, 0.9):  # the distribution function is (exp(rate * t / T) - 1) / (exp(rate) - 1)
        t = drawn[int(share * count)] / longest_s
        assert math.expm1(rate * t) / math.expm1(rate) == pytest.approx(share, abs=0.02)


def test_of_a_thousand_only_a_few_ask_within_the_first_half() -> None:
    rng = random.Random(2)
    early = sum(random_backoff(rng, 0.05, 1000) < 0.025 for _ in range(1000))
    assert 5 <= early <= 40
