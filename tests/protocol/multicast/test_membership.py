# SPDX-License-Identifier: Apache-2.0
"""Who is worked for, who is waited for, and who is gone."""

from __future__ import annotations

import math

import pytest

from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.membership import (
    FORGET_TIMEOUTS,
    FULL_GROUP,
    HYSTERESIS,
    MIN_REPRESENTATIVES,
    RANK_S,
    Membership,
    representative_count,
)
from dpd.protocol.multicast.message import MAX_REPRESENTATIVES
from dpd.protocol.multicast.pacing import STALL_S, Credit, Standing
from dpd.protocol.multicast.sender_events import MemberForgotten, MemberSilent

TIMEOUT_S = 10.0


@pytest.fixture
def membership() -> Membership:
    return Membership(TIMEOUT_S)


def join(membership: Membership, number: int, window: int = 1000, now: float = 0.0) -> Member:
    member = Member(number, Credit(window, -1), Standing(), 4, 0, False, now, joined_at=now)
    membership.add(member)
    return member


def named(membership: Membership, now: float) -> set[int]:
    return {m.member for m in membership.representatives(now)}


@pytest.mark.parametrize("members", [1, 16, 250, 300, 400, 500, 700, 1000, 3000])
def test_the_reports_of_a_group_leave_room_for_nacks(members: int) -> None:
    """A representative reports no oftener than every members / 1000 · 50 ms, the others every 1 to 4 s."""
    fast = representative_count(members)
    assert MIN_REPRESENTATIVES <= fast <= MAX_REPRESENTATIVES
    if members >= FULL_GROUP:
        reports = fast * 1000 / (members * 0.05) + members / min(max(1.0, members / 250), 4.0)
        assert reports <= 1600 if members == FULL_GROUP else reports <= 1000 * max(1.0, members / 1000) + 500


def test_a_thousand_members_report_at_most_410_times_a_second() -> None:
    assert representative_count(1000) * 20 + 1000 / 4 <= 410


def test_in_a_small_group_everybody_is_a_representative(membership: Membership) -> None:
    for number in range(MAX_REPRESENTATIVES):
        join(membership, number)
    assert named(membership, 0.0) == set(range(MAX_REPRESENTATIVES))


def test_the_weakest_are_representatives(membership: Membership) -> None:
    for number in range(60):
        join(membership, number, window=1000 + number)
    small, lossy, slow = (membership.members[n] for n in (57, 58, 59))
    small.credit.limit, lossy.loss, slow.free_slabs = 128, 0.1, 0
    assert {57, 58, 59} < named(membership, 0.0)


def test_one_is_replaced_only_by_one_that_is_clearly_weaker(membership: Membership) -> None:
    for number in range(MAX_REPRESENTATIVES):
        join(membership, number, window=1000)
    first = named(membership, 0.0)
    join(membership, 100, window=900)
    assert named(membership, 1.0) == first
    membership.members[100].credit.limit = int(1000 * HYSTERESIS) - 10
    assert 100 in named(membership, 2.0)


def test_one_waited_for_in_vain_makes_room_for_the_living(membership: Membership) -> None:
    for number in range(MAX_REPRESENTATIVES + 4):
        join(membership, number, window=100 + number)
    for number in range(4):
        membership.members[number].standing.stalled_s = STALL_S
    assert named(membership, 1.0) == set(range(4, MAX_REPRESENTATIVES + 4))


def test_who_takes_the_place_of_the_dead_is_waited_for_once_it_has_answered(membership: Membership) -> None:
    """Else a class would wait a second for each of a room's machines, when its power fails."""
    for number in range(MAX_REPRESENTATIVES + 1):
        member = join(membership, number, window=100 + number)
        assert member.holds
        if number:
            member.hear(5, 2.0)
    membership.representatives(3.0)
    membership.members[1].standing.stalled_s = STALL_S
    last = membership.members[MAX_REPRESENTATIVES]
    assert last in membership.representatives(4.0)
    assert not last.holds
    last.hear(6, 4.1)
    assert last.holds


def test_the_choice_is_kept_until_something_changes(membership: Membership) -> None:
    for number in range(40):
        join(membership, number)
    chosen = membership.representatives(0.0)
    assert membership.representatives(RANK_S / 2) is chosen
    assert membership.wanting is membership.wanting
    membership.remove(chosen[0].member)
    assert chosen[0] not in membership.representatives(RANK_S / 2)


def test_the_silent_are_found_once_and_forgotten_later(membership: Membership) -> None:
    join(membership, 1)
    other = join(membership, 2)
    assert membership.note_silence(TIMEOUT_S) == []
    other.hear(1, TIMEOUT_S)
    assert membership.note_silence(TIMEOUT_S + 0.1) == [MemberSilent(1)]
    assert membership.wanting == [other]
    other.hear(2, FORGET_TIMEOUTS * TIMEOUT_S)
    assert membership.note_silence(FORGET_TIMEOUTS * TIMEOUT_S + 0.1) == [MemberForgotten(1)]
    assert list(membership.members) == [2]


def test_one_that_came_back_is_found_silent_again_in_time(membership: Membership) -> None:
    member = join(membership, 1)
    assert membership.note_silence(11.0) == [MemberSilent(1)]
    member.hear(1, 20.0)
    membership.touch()
    assert membership.note_silence(29.9) == []
    assert membership.note_silence(30.1) == [MemberSilent(1)]


def test_without_members_there_is_no_silence(membership: Membership) -> None:
    assert membership.next_silence() == math.inf
    assert membership.note_silence(1e9) == []
