# SPDX-License-Identifier: Apache-2.0
"""Slow clients: who is moved, who has to go, and who is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.member import Member, SlabsSent
from dpd.protocol.multicast.message import ControlCode, ControlReason, Header, MessageType, Report, Tally
from dpd.protocol.multicast.pacing import Credit, Standing
from dpd.protocol.multicast.policy import (
    ENDGAME_S,
    FLOOR_S,
    SLAB_KIB,
    UP_S,
    WINDOW_S,
    PolicyOrder,
    PolicyRules,
    SlowClientPolicy,
    SlowClients,
    StreamView,
)

SLABS = 4000
EVERY = (1 << SLABS) - 1
MULTISTREAM = PolicyRules(SlowClients.MULTISTREAM, streams=2)
DISCONNECT = PolicyRules(SlowClients.DISCONNECT, below_kib_s=10 * SLAB_KIB)


@dataclass
class Stream:
    """A class that sends so many slabs a second in order, and its members with what they store of them."""

    speed_class: int = 0
    slabs_s: float = 20.0
    repair: float = 0.0
    ceiling_kib_s: float = 0.0
    has_started: bool = True
    sent: SlabsSent = field(default_factory=SlabsSent)
    members: dict[int, Member] = field(default_factory=dict)
    share: dict[int, float] = field(default_factory=dict)  # of what is sent, what a member stores
    blame: dict[int, int] = field(default_factory=dict)  # a second
    due: float = 0.0

    def join(self, number: int, share: float = 1.0, *, verified: int = 0, now: float = 0.0) -> Member:
        member = Member(number, Credit(1000, -1), Standing(), 4, verified, False, now, joined_at=now, reported_at=now)
        member.slab_count = SLABS
        self.members[number], self.share[number] = member, share
        return member

    def run(self, seconds: float, now: float, report_gap_s: float = 0.25) -> float:
        """Send, store and report. Returns the time after."""
        for _ in range(round(seconds / report_gap_s)):
            now += report_gap_s
            self.due += self.slabs_s * report_gap_s
            new = 0
            for _ in range(int(self.due)):
                slab = self.sent.ended_count % SLABS
                self.sent.begin(slab, 0)
                self.sent.end(0)
                new |= 1 << slab
            self.due -= int(self.due)
            for number, member in self.members.items():
                self._store(member, new, now, report_gap_s)
                member.blame += round(self.blame.get(number, 0) * report_gap_s)
        return now

    def _store(self, member: Member, new: int, now: float, gap_s: float) -> None:
        stored = 0
        for slab in range(SLABS) if new else ():
            if new >> slab & 1 and (slab * 7919) % 1000 < 1000 * self.share[member.member]:
                stored |= 1 << slab
        drain = round(SLAB_KIB * stored.bit_count() / gap_s)
        report = Report(
            Header(MessageType.REPORT, 1, 1), member.member, 0, 0, 0, 4, Tally(drain_kib_s=drain), (), 0, SLABS,
            member.verified | stored,
        )  # fmt: skip
        member.hear(self.sent.ended_count, now)
        member.take_report(report, self.sent.ended_count, EVERY, now)

    def view(self) -> StreamView:
        symbols = self.sent.ended_count * ROWS * COLUMNS
        return StreamView(
            self.speed_class, self.has_started, self.ceiling_kib_s, symbols, int(symbols * self.repair),
            tuple(self.sent.ended), self.sent.ended_count, self.members,
        )  # fmt: skip


def judged(
    policy: SlowClientPolicy, seconds: int, *streams: Stream, now: float = 0.0
) -> list[tuple[float, PolicyOrder]]:
    """Orders by their time, when it is looked once a second; they are not obeyed."""
    orders = []
    for _ in range(seconds):
        for stream in streams:
            stream.run(1.0, now)
        now += 1.0
        orders += [(now, order) for order in policy.judge([s.view() for s in streams], now)]
    return orders


def members(orders: list[tuple[float, PolicyOrder]]) -> set[int]:
    return {order.member for _, order in orders}


def group(count: int, **fields: float) -> Stream:
    stream = Stream(**fields)  # type: ignore[arg-type]
    for number in range(count):
        stream.join(number)
    return stream


# ---- nobody


@pytest.mark.parametrize("rules", [PolicyRules(), MULTISTREAM, replace(MULTISTREAM, streams=3), DISCONNECT])
def test_who_keeps_up_is_left_alone(rules: PolicyRules) -> None:
    assert judged(SlowClientPolicy(rules), 60, group(5)) == []


def test_under_none_nobody_is_moved_whatever_happens() -> None:
    stream = group(5, repair=0.5)
    stream.share[0] = 0.1
    stream.blame[1] = 1000
    assert judged(SlowClientPolicy(PolicyRules()), 60, stream) == []


def test_nothing_is_judged_before_the_start() -> None:
    stream = group(5, slabs_s=0.0)
    stream.has_started = False
    assert judged(SlowClientPolicy(DISCONNECT), 120, stream) == []


# ---- multistream


def test_a_slow_one_goes_down_after_ten_seconds() -> None:
    stream = group(5)
    stream.share[3] = 0.6
    orders = judged(SlowClientPolicy(MULTISTREAM), 15, stream)
    assert orders[0][1] == PolicyOrder(3, ControlCode.MOVE, ControlReason.SLOW, 1)
    assert WINDOW_S <= orders[0][0] <= WINDOW_S + 2
    assert members(orders) == {3}


@pytest.mark.parametrize("share", [0.85, 0.9])
def test_a_little_slower_is_waited_for_and_not_moved(share: float) -> None:
    stream = group(5)
    stream.share[3] = share
    assert judged(SlowClientPolicy(MULTISTREAM), 60, stream) == []


def test_nine_seconds_of_weakness_are_forgiven() -> None:
    stream = group(5)
    policy = SlowClientPolicy(MULTISTREAM)
    now = 0.0
    for _ in range(5):
        stream.share[3] = 0.5
        assert judged(policy, 3, stream, now=now) == []
        stream.share[3] = 1.0
        assert judged(policy, 9, stream, now=now + 3) == []
        now += 12


def test_reports_every_four_seconds_are_enough() -> None:
    stream = group(5)
    stream.share[3] = 0.5
    policy = SlowClientPolicy(MULTISTREAM)
    orders, now = [], 0.0
    for second in range(40):
        if second % 4 == 3:
            stream.run(4.0, now - 3.0, report_gap_s=4.0)
        now += 1.0
        orders += policy.judge([stream.view()], now)
    assert {order.member for order in orders} == {3}


def test_who_has_most_of_what_is_sent_already_is_not_slow() -> None:
    stream = group(4)
    stream.join(9, verified=EVERY ^ (1 << SLABS - 1))
    assert judged(SlowClientPolicy(MULTISTREAM), 40, stream) == []


def test_where_all_are_slow_nobody_is() -> None:
    stream = group(3)
    stream.share = dict.fromkeys(stream.share, 0.5)
    assert judged(SlowClientPolicy(MULTISTREAM), 40, stream) == []


def test_one_alone_has_nobody_to_be_slower_than() -> None:
    stream = group(1)
    stream.share[0] = 0.5
    assert judged(SlowClientPolicy(MULTISTREAM), 40, stream) == []


def test_below_the_last_class_there_is_none() -> None:
    stream = group(5, speed_class=1)
    stream.share[3] = 0.5
    assert judged(SlowClientPolicy(MULTISTREAM), 40, stream) == []
    orders = judged(SlowClientPolicy(replace(MULTISTREAM, streams=3)), 20, stream)
    assert orders[0][1].speed_class == 2


@pytest.mark.parametrize(
    ("repair", "blame", "moved"),
    [
        pytest.param(0.05, {2: 1000, 3: 100, 4: 100}, {2}, id="most of much"),
        pytest.param(0.02, {2: 1000, 3: 100, 4: 100}, set(), id="most of little"),
        pytest.param(0.05, {2: 1000, 3: 600, 4: 600}, set(), id="shared"),
        pytest.param(0.05, {}, set(), id="nobody's"),
    ],
)
def test_blame(repair: float, blame: dict[int, int], moved: set[int]) -> None:
    stream = group(6, repair=repair)
    stream.blame = blame
    orders = judged(SlowClientPolicy(MULTISTREAM), 15, stream)
    assert members(orders) == moved
    assert {order.reason for _, order in orders} <= {ControlReason.BLAME}


def test_in_a_small_group_nobody_is_to_blame() -> None:
    stream = group(3, repair=0.2)
    stream.blame = {0: 1000}
    assert judged(SlowClientPolicy(MULTISTREAM), 40, stream) == []


def test_up_again_after_thirty_seconds_and_later_each_time() -> None:
    """It is fast below and slow above: the way back doubles."""
    upper, lower = group(3, slabs_s=4.0), Stream(speed_class=1, slabs_s=6.0)
    policy = SlowClientPolicy(MULTISTREAM)
    lower.join(9)
    now, ups = 0.0, []
    for _ in range(3):
        start = now
        while not (orders := judged(policy, 1, upper, lower, now=now)):
            now += 1.0
        assert orders[0][1] == PolicyOrder(9, ControlCode.MOVE, ControlReason.RECOVERED, 0)
        ups.append(now - start)
        upper.members[9] = lower.members.pop(9)
        upper.share[9] = 0.4
        while not (orders := judged(policy, 1, upper, lower, now=now)):
            now += 1.0
        assert orders[0][1] == PolicyOrder(9, ControlCode.MOVE, ControlReason.SLOW, 1)
        lower.members[9] = upper.members.pop(9)
    assert ups[0] == pytest.approx(UP_S, abs=3)
    assert ups[1] == pytest.approx(2 * UP_S, abs=3)
    assert ups[2] == pytest.approx(4 * UP_S, abs=3)


def test_who_is_not_clearly_faster_stays_below() -> None:
    upper, lower = group(3), Stream(speed_class=1, slabs_s=22.0)
    lower.join(9)
    assert judged(SlowClientPolicy(MULTISTREAM), 60, upper, lower) == []


def test_nobody_goes_up_to_a_class_that_sends_nothing() -> None:
    upper, lower = group(1, slabs_s=0.0), Stream(speed_class=1, slabs_s=30.0)
    lower.join(9)
    assert judged(SlowClientPolicy(MULTISTREAM), 60, upper, lower) == []


# ---- disconnect


@pytest.mark.parametrize(("fall_back", "code"), [(True, ControlCode.FALL_BACK), (False, ControlCode.KICK)])
def test_who_stores_less_than_the_threshold_has_to_go(fall_back: bool, code: ControlCode) -> None:
    stream = group(5)
    stream.share[3] = 0.3
    orders = judged(SlowClientPolicy(replace(DISCONNECT, fall_back=fall_back)), 20, stream)
    assert orders[0][1] == PolicyOrder(3, code, ControlReason.SLOW, 0)
    assert members(orders) == {3}


def test_slower_than_the_others_is_no_reason() -> None:
    stream = group(5)
    stream.share[3] = 0.6
    assert judged(SlowClientPolicy(DISCONNECT), 40, stream) == []


def test_a_class_whose_own_ceiling_is_below_the_threshold_shows_nothing() -> None:
    stream = group(5, slabs_s=5.0, ceiling_kib_s=5 * SLAB_KIB)
    assert judged(SlowClientPolicy(DISCONNECT), 60, stream) == []


def test_one_alone_below_the_threshold_has_to_go_too() -> None:
    assert members(judged(SlowClientPolicy(DISCONNECT), 40, group(1, slabs_s=5.0))) == {0}


def test_a_low_threshold_takes_longer_to_judge_by() -> None:
    rules = replace(DISCONNECT, below_kib_s=SLAB_KIB / 10)  # a slab in ten seconds
    stream = group(2, slabs_s=0.3)
    assert judged(SlowClientPolicy(rules), 120, stream) == []
    stream = group(2, slabs_s=0.01)
    orders = judged(SlowClientPolicy(rules), 120, stream)
    assert members(orders) == {0, 1}
    assert orders[0][0] >= 3 * 10


def test_who_is_sent_what_it_has_is_not_below_the_threshold() -> None:
    stream = group(4)
    stream.join(9, verified=EVERY ^ (1 << SLABS - 1))
    assert judged(SlowClientPolicy(DISCONNECT), 40, stream) == []


# ---- the floor


def test_who_brings_the_last_class_below_its_floor_falls_back() -> None:
    rules = replace(MULTISTREAM, streams=2, floor_kib_s=2 * SLAB_KIB)
    stream = group(3, speed_class=1, slabs_s=1.0)
    stream.share[1] = 0.2
    orders = judged(SlowClientPolicy(rules), 50, stream)
    assert [order for _, order in orders] == [PolicyOrder(1, ControlCode.FALL_BACK, ControlReason.SLOW, 1)]
    assert FLOOR_S <= orders[0][0] <= FLOOR_S + 2


def test_a_class_with_a_ceiling_below_the_floor_is_left_alone() -> None:
    rules = replace(MULTISTREAM, floor_kib_s=2 * SLAB_KIB)
    assert judged(SlowClientPolicy(rules), 60, group(3, slabs_s=1.0, ceiling_kib_s=2 * SLAB_KIB)) == []


# ---- the end


def all_but(*slabs: int) -> int:
    return EVERY & ~sum(1 << slab for slab in slabs)


def finish(stream: Stream, left: dict[int, int]) -> None:
    """The members named have these slabs; the others have gone."""
    for number in list(stream.members):
        if number in left:
            stream.members[number].verified = left[number]
        else:
            del stream.members[number]


@pytest.mark.parametrize(
    ("left", "out"),
    [
        pytest.param({1: all_but(1, 2), 3: all_but(7, 8)}, {1, 3}, id="nothing in common"),
        pytest.param({1: all_but(*range(9)), 3: all_but(*range(9))}, set(), id="the same"),
        pytest.param({3: all_but(5)}, {3}, id="the last"),
        pytest.param({1: all_but(1), 2: all_but(2), 3: all_but(3)}, set(), id="three"),
    ],
)
def test_the_last_of_a_group_go_on_by_http_where_multicast_gains_nothing(left: dict[int, int], out: set[int]) -> None:
    stream, policy = group(6, slabs_s=0.0), SlowClientPolicy(PolicyRules())
    assert judged(policy, 20, stream) == []
    finish(stream, left)
    orders = judged(policy, 10, stream, now=20.0)
    assert {(o.member, o.code, o.reason) for _, o in orders} == {
        (m, ControlCode.FALL_BACK, ControlReason.ENDGAME) for m in out
    }
    assert all(time >= 20.0 + ENDGAME_S for time, _ in orders)


def leave_one(stream: Stream) -> None:
    finish(stream, {0: all_but(5)})


def join_late(stream: Stream) -> None:
    finish(stream, {})
    stream.join(7, now=20.0)


@pytest.mark.parametrize(
    ("size", "rules", "happens"),
    [
        pytest.param(2, PolicyRules(), leave_one, id="a small group"),
        pytest.param(6, PolicyRules(fall_back=False), leave_one, id="no other way"),
        pytest.param(6, PolicyRules(), join_late, id="who has only just joined: more may follow"),
    ],
)
def test_the_last_stay(size: int, rules: PolicyRules, happens: Callable[[Stream], None]) -> None:
    stream, policy = group(size, slabs_s=0.0), SlowClientPolicy(rules)
    judged(policy, 20, stream)
    happens(stream)
    assert judged(policy, 10, stream, now=20.0) == []


def test_what_is_known_follows_a_receiver_to_its_next_id_and_goes_with_it() -> None:
    stream, policy = group(5), SlowClientPolicy(MULTISTREAM)
    judged(policy, 5, stream)
    record = policy._records[3]
    policy.replace(3, 33)
    assert policy._records[33] is record
    judged(policy, 1, stream, now=5.0)
    assert set(policy._records) == set(range(5))
