# SPDX-License-Identifier: Apache-2.0
"""When a receiver asks, asks again, and stops asking."""

from __future__ import annotations

import math

import pytest

from dpd.protocol.multicast.gaps import FIRST_RETRY_S, MAX_RETRY_S, Gaps


@pytest.fixture
def gaps() -> Gaps:
    gaps = Gaps()
    for slab in (7, 3, 5):
        gaps.ask(slab, at=slab / 10)
    return gaps


def test_a_slab_is_due_at_its_time_and_not_before(gaps: Gaps) -> None:
    assert gaps.next_due() == 0.3
    assert gaps.take_due(0.29, 0.0, 32) == []
    assert gaps.take_due(0.5, 0.0, 32) == [3, 5]


def test_no_more_are_taken_than_a_nack_holds(gaps: Gaps) -> None:
    assert gaps.take_due(1.0, 0.0, 2) == [7, 3]
    assert gaps.take_due(1.0, 0.0, 2) == [5]
    assert gaps.take_due(1.0, 0.0, 2) == []


def test_who_gets_no_answer_asks_ever_more_slowly_but_never_stops() -> None:
    gaps = Gaps()
    gaps.ask(0, 0.0)
    waits = []
    for _ in range(12):
        now = gaps.next_due()
        assert gaps.take_due(now, 0.0, 32) == [0]
        waits.append(gaps.next_due() - now)
    assert waits == pytest.approx([min(FIRST_RETRY_S * 2**i, MAX_RETRY_S) for i in range(12)])


def test_in_a_large_group_the_answer_takes_longer(gaps: Gaps) -> None:
    gaps.take_due(0.3, 0.1, 32)
    assert gaps.take_due(0.39, 0.1, 32) == []
    assert gaps.take_due(0.41, 0.1, 32) == [3]


def test_asking_anew_begins_with_the_short_wait(gaps: Gaps) -> None:
    for now in (1.0, 2.0, 3.0):
        gaps.take_due(now, 0.0, 32)
    gaps.ask(3, at=4.0)
    gaps.take_due(4.0, 0.0, 32)
    assert gaps.next_due() == pytest.approx(4.0 + FIRST_RETRY_S)


def test_what_is_complete_is_not_asked_for(gaps: Gaps) -> None:
    for slab in (3, 5, 7, 9):
        gaps.drop(slab)
    assert 3 not in gaps
    assert gaps.next_due() == math.inf
    assert gaps.take_due(9.0, 0.0, 32) == []
