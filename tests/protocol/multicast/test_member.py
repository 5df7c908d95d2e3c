# SPDX-License-Identifier: Apache-2.0
"""What the sender believes of a receiver, and of the slabs on their way to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpd.protocol.multicast.member import SLABS_REMEMBERED, Member, SlabsSent, Wait, Waiting
from dpd.protocol.multicast.message import MAX_ECHO_DELAY_US, Header, MessageType, Report, Tally
from dpd.protocol.multicast.pacing import MIN_CREDIT, STALL_S, Credit, Standing

EVERY = 0b1111
REPORT = Report(Header(MessageType.REPORT, 1, 1), 9, 0, 0, 0, 16, Tally(), (), 0, 4, 0)


@pytest.fixture
def member() -> Member:
    return Member(9, Credit(1000, -1), Standing(), free_slabs=4, verified=0, is_complete=False, heard_at=0.0)


@pytest.fixture
def sent() -> SlabsSent:
    """Slabs 0 and 1 are sent, slab 2 half."""
    sent = SlabsSent()
    for slab in range(2):
        sent.begin(slab, 100 * slab)
        sent.end(100 * slab + 99)
    sent.begin(2, 200)
    return sent


def test_what_was_sent_behind_the_last_report_is_on_the_way(member: Member, sent: SlabsSent) -> None:
    assert sent.on_the_way(member) == 0b111
    member.take_report(REPORT, 99, EVERY, 1.0)
    assert sent.on_the_way(member) == 0b110
    member.take_report(REPORT, 250, EVERY, 1.0)
    assert sent.on_the_way(member) == 0b100, "its last symbol is not even sent"


def test_a_slab_is_lacking_only_when_the_report_that_covers_it_names_it_nowhere(
    member: Member, sent: SlabsSent
) -> None:
    assert sent.lacking(member) & EVERY == 0b1000
    member.take_report(replace(REPORT, held=(1,)), 199, EVERY, 1.0)
    assert sent.lacking(member) & EVERY == 0b1001
    member.take_report(replace(REPORT, verified=0b1, held=(1,)), 199, EVERY, 1.0)
    assert sent.lacking(member) & EVERY == 0b1000


def test_a_slab_that_was_never_sent_cannot_be_held(member: Member, sent: SlabsSent) -> None:
    member.take_report(replace(REPORT, held=(3,)), 199, EVERY, 1.0)
    assert sent.lacking(member) >> 3 & 1


def test_repair_is_for_what_is_held_or_on_the_way_and_not_verified(member: Member, sent: SlabsSent) -> None:
    member.take_report(replace(REPORT, verified=0b1, held=(1,)), 199, EVERY, 1.0)
    assert [slab for slab in range(4) if sent.is_in_repair(slab, member)] == [1, 2]


def test_slabs_that_it_has_take_none_of_its_buffers(member: Member, sent: SlabsSent) -> None:
    assert sent.begun_for(member) == 3
    member.take_report(replace(REPORT, verified=0b1), 0, EVERY, 1.0)
    assert sent.begun_for(member) == 2


def test_a_report_that_was_overtaken_turns_nothing_back(member: Member) -> None:
    member.take_report(replace(REPORT, verified=0b1, held=(1,), free_slabs=3), 199, EVERY, 1.0)
    member.take_report(replace(REPORT, verified=0b10, held=(), free_slabs=4), 99, EVERY, 1.1)
    assert (member.verified, member.held, member.free_slabs, member.reported_seen) == (0b11, 0b10, 3, 199)


def test_a_member_with_every_slab_wants_nothing_more(member: Member) -> None:
    assert member.is_wanting
    member.take_report(replace(REPORT, verified=EVERY), 99, EVERY, 1.0)
    assert member.is_complete
    assert not member.is_wanting


def test_being_heard_revives_and_only_progress_counts_as_progress(member: Member) -> None:
    member.is_live = False
    member.hear(50, 7.0)
    assert member.is_live
    member.standing.stalled_s = 0.5
    member.hear(50, 8.0)
    assert (member.heard_at, member.standing.stalled_s) == (8.0, 0.5)
    member.hear(51, 9.0)
    assert member.standing.stalled_s == 0.0


def test_the_round_trip_comes_from_the_echo_and_not_from_one_too_old(member: Member) -> None:
    member.take_report(replace(REPORT, echo_time=1_000_000, echo_delay_us=3_000), 0, EVERY, now=1.0055)
    assert member.round_trip.smoothed_s == pytest.approx(0.0025, abs=1e-5)
    member.take_report(replace(REPORT, echo_time=1_000_000, echo_delay_us=MAX_ECHO_DELAY_US), 0, EVERY, now=9.0)
    assert member.round_trip.smoothed_s == pytest.approx(0.0025, abs=1e-5)


def test_what_is_remembered_of_slabs_is_bounded(member: Member) -> None:
    sent = SlabsSent()
    for slab in range(SLABS_REMEMBERED + 10):
        sent.begin(slab, slab)
        sent.end(slab)
    assert sent.on_the_way(member).bit_count() == SLABS_REMEMBERED


# ---- whether to wait


def test_waiting_is_known_by_its_reason_and_counted_once(member: Member) -> None:
    waiting = Waiting()
    for now in (1.0, 1.1, 1.2):
        assert waiting.must_wait(Wait.CREDIT, [member], is_shared=True, now=now)
    assert Wait.CREDIT in waiting
    assert Wait.SLABS not in waiting
    assert not waiting.must_wait(Wait.CREDIT, [], is_shared=True, now=1.3)
    assert not waiting
    assert waiting.must_wait(Wait.SLABS, [member], is_shared=True, now=1.4)
    waiting.end(Wait.SLABS)
    assert not waiting
    assert waiting.stalls == 2


def keep(
    waiting: Waiting, members: list[Member], start: float, *, is_shared: bool = False, limit_s: float = 60.0
) -> float:
    """How long these are waited for, who show progress all the time and never have room."""
    now = start
    while waiting.must_wait(Wait.CREDIT, members, is_shared, now) and now - start < limit_s:
        now += 0.125
        for member in members:
            member.standing.progress()
    return now - start


def test_any_number_of_slow_ones_keep_the_others_for_a_second_together(member: Member) -> None:
    waiting = Waiting()
    slow = [replace(member, standing=Standing()) for _ in range(8)]
    assert keep(waiting, slow[:1], 0.0) == pytest.approx(STALL_S, abs=0.2)
    for number, each in enumerate(slow):
        assert keep(waiting, [each], 1.2 + number) <= 0.125


def test_where_nobody_else_could_go_on_waiting_costs_nothing(member: Member) -> None:
    waiting = Waiting()
    assert keep(waiting, [member], 0.0, is_shared=True, limit_s=30.0) == 30.0
    assert waiting.allowance.left_s == STALL_S


def test_one_without_progress_is_not_waited_for_longer_than_a_second_even_alone(member: Member) -> None:
    waiting, now = Waiting(), 5.0
    while waiting.must_wait(Wait.SLABS, [member], is_shared=True, now=now):
        now += 0.125
    assert now - 5.0 == pytest.approx(STALL_S, abs=0.2)


def test_one_at_work_loses_nothing_while_another_is_waited_for(member: Member) -> None:
    """Which of several equals reports first is chance, and no reason to stop waiting for the last of them."""
    member.credit.limit = 1000
    member.credit.seen = 0
    assert not member.could_go_on(last_seq=501)
    assert member.could_go_on(last_seq=500)
    member.holds = False
    assert not member.could_go_on(last_seq=500)


def test_the_window_of_a_report_is_its_credit_from_now_on(member: Member) -> None:
    member.take_report(replace(REPORT, window=300), 0, EVERY, 1.0)
    assert member.credit.limit == 300
    member.take_report(replace(REPORT, window=1), 1, EVERY, 1.0)
    assert member.credit.limit == MIN_CREDIT
    member.take_report(replace(REPORT, window=0), 2, EVERY, 1.0)
    assert member.credit.limit == MIN_CREDIT
