# SPDX-License-Identifier: Apache-2.0
"""Feedback as it comes in: what it changes, and what is said of that which changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.feedback import Feedback, expand
from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.membership import Membership
from dpd.protocol.multicast.message import (
    Beat,
    ControlCode,
    ControlReason,
    Header,
    MessageType,
    Nack,
    Report,
    SlabDeficits,
    Tally,
)
from dpd.protocol.multicast.orders import Orders
from dpd.protocol.multicast.pacing import Credit, Standing
from dpd.protocol.multicast.repair import RepairQueue
from dpd.protocol.multicast.sender_events import SenderCounters

SESSION, EPOCH, SLABS = 7, 3, 4
EVERY = (1 << SLABS) - 1
TWO_EACH = b"\x02" * COLUMNS


@dataclass
class Desk:
    """The parts of a sender that feedback changes. Two members; slab 0 was sent with the numbers 0 to 4095."""

    membership: Membership = field(default_factory=lambda: Membership(10.0))
    orders: Orders = field(default_factory=Orders)
    carousel: Carousel = field(default_factory=lambda: Carousel(Geometry(SLABS * SLAB_BYTES)))
    repairs: RepairQueue = field(default_factory=lambda: RepairQueue(lambda *_: None))
    counters: SenderCounters = field(default_factory=SenderCounters)
    ignored: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feedback = Feedback(
            SESSION, EPOCH, Geometry(SLABS * SLAB_BYTES), self.membership, self.orders, self.carousel, self.repairs,
            self.counters, self.ignored.append,
        )  # fmt: skip
        for number in (1, 2):
            self.membership.add(Member(number, Credit(1000, -1), Standing(), 4, 0, False, 0.0, slab_count=SLABS))
        self.carousel.begin(0, 0, 0, 0)
        self.carousel.sent.end(ROWS * COLUMNS - 1)

    def hear(self, message: Nack | Report | Beat, now: float = 1.0) -> None:
        self.feedback.take(message.encode(), ROWS * COLUMNS - 1, now)

    def member(self, number: int = 1) -> Member:
        return self.membership.members[number]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def nack(slab: int = 0, deficits: bytes = TWO_EACH, member: int = 1, session: int = SESSION) -> Nack:
    return Nack(Header(MessageType.NACK, session, EPOCH), member, 4000, (SlabDeficits(slab, deficits),))


def report(verified: int = 0, member: int = 1, slabs: int = SLABS, seen: int = 4095) -> Report:
    return Report(Header(MessageType.REPORT, SESSION, EPOCH), member, seen, 0, 0, 4, Tally(), (), 0, slabs, verified)


def test_a_nack_brings_repair_and_is_held_against_its_member(desk: Desk) -> None:
    desk.hear(nack())
    assert desk.repairs.has_pending
    assert (desk.member().blame, desk.member().nacks, desk.counters.nacks) == (2 * COLUMNS, 1, 1)
    desk.hear(nack(member=2))
    assert desk.member(2).blame == 0, "nothing more is sent for its sake"
    assert desk.member().credit.seen == 4000


def test_a_report_tells_what_is_lacking(desk: Desk) -> None:
    assert desk.carousel.choose(desk.membership.wanting) is None
    desk.hear(report())
    assert desk.carousel.choose(desk.membership.wanting) is not None
    assert desk.counters.reports == 1


def test_who_has_everything_is_no_longer_worked_for(desk: Desk) -> None:
    assert len(desk.membership.wanting) == 2
    desk.hear(report(EVERY))
    assert desk.membership.wanting == [desk.member(2)]


def test_the_silent_are_back_when_heard(desk: Desk) -> None:
    desk.member().is_live = False
    desk.membership.touch()
    assert len(desk.membership.wanting) == 1
    desk.hear(nack())
    assert len(desk.membership.wanting) == 2


def test_who_has_its_orders_is_reminded_and_not_served(desk: Desk) -> None:
    desk.member().is_leaving = True
    desk.orders.give(ControlCode.MOVE, ControlReason.SLOW, [1], 0.0)
    while desk.orders.take(50.0):
        pass
    desk.hear(nack(), now=50.0)
    assert desk.orders.take(50.0) is not None
    assert not desk.repairs.has_pending
    assert desk.ignored == ["leaving_member"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(nack(session=SESSION + 1), "other_session", id="other session"),
        pytest.param(nack(member=3), "unknown_member", id="nobody"),
        pytest.param(nack(slab=1), "out_of_range", id="never sent"),
        pytest.param(nack(slab=SLABS), "out_of_range", id="no such slab"),
        pytest.param(report(slabs=SLABS + 8), "out_of_range", id="of another object"),
        pytest.param(Beat(Header(MessageType.BEAT, SESSION, EPOCH), 0, 0, 0), "not_feedback", id="a sender's"),
    ],
)
def test_what_is_not_for_this_session_changes_nothing(desk: Desk, message: Nack | Report | Beat, reason: str) -> None:
    desk.hear(message)
    assert desk.ignored == [reason]
    assert not desk.repairs.has_pending
    assert desk.counters.reports == 0


@given(st.binary(max_size=200))
def test_whatever_comes_is_taken_or_ignored(data: bytes) -> None:
    desk = Desk()
    desk.feedback.take(data, 4095, 1.0)
    assert len(desk.ignored) == 1


@pytest.mark.parametrize(
    ("seq", "latest", "full"),
    [
        (9, 9, 9),
        (9, 20, 9),
        (0xFFFFFFF0, 0x1_0000_0005, 0xFFFFFFF0),
        (5, 0x7_0000_0005, 0x7_0000_0005),
        (21, 20, 20),
        (0, -1, -1),
    ],
)
def test_a_number_from_the_wire_is_the_latest_that_was_sent(seq: int, latest: int, full: int) -> None:
    assert expand(seq, latest) == full
