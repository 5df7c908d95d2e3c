# SPDX-License-Identifier: Apache-2.0
"""The sender alone, with feedback written by hand: what goes out, in which order, and what must never."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from tests.protocol.multicast.sender_bench import (
    EPOCH,
    QUIET_S,
    SESSION,
    TIMEOUT_S,
    WHOLE_OBJECT,
    Bench,
    headers,
    rows,
)

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import (
    MAX_REPRESENTATIVES,
    Control,
    ControlCode,
    ControlReason,
    Flag,
    MessageType,
)
from dpd.protocol.multicast.orders import ORDER_GAP_S, ORDER_S
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import (
    BEAT_S,
    END_COPIES,
    END_GAP_S,
    WAITING_BEAT_S,
    MemberForgotten,
    MemberSilent,
    ParityNeeded,
    SlabSettled,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- the start


def test_without_members_nothing_is_sent_and_nothing_awaited(bench: Bench) -> None:
    assert bench.pump(60.0) == []
    assert bench.sender.next_timeout(bench.now) is None


def test_those_who_join_close_together_share_one_pass(bench: Bench) -> None:
    for member in range(3):
        bench.join(member)
        assert bench.pump(0.6 * QUIET_S) == []
    assert rows(bench.pump(QUIET_S)) == WHOLE_OBJECT


def test_the_first_is_not_kept_waiting_by_a_stream_of_others(bench: Bench) -> None:
    for member in range(12):
        bench.join(member)
        bench.pump(0.5 * QUIET_S)
    assert bench.trains
    assert bench.beats[0][0] < bench.now - QUIET_S


def test_beats_tell_those_who_wait_for_the_start_that_the_sender_lives() -> None:
    """A receiver gives up after three seconds without a sign of life; the start may be later than that."""
    bench = Bench()
    bench.sender.schedule = Schedule(60.0, 60.0)
    bench.join()
    assert bench.pump(30.0) == []
    times = [time for time, _ in bench.beats]
    assert max(b - a for a, b in pairwise(times)) <= 2 * BEAT_S


def test_a_late_joiner_does_not_stop_the_stream(bench: Bench) -> None:
    bench.join(1, credit=10 * COLUMNS)
    bench.pump(QUIET_S)
    bench.join(2)
    bench.report(1)
    assert rows(bench.pump()) == [(0, row) for row in range(10, 20)]


# ---- the stream


def test_rows_leave_in_file_order_numbered_without_a_gap(bench: Bench) -> None:
    bench.join()
    trains = bench.pump(1.0)
    assert rows(trains) == WHOLE_OBJECT
    sent = [header for train in trains for header in headers(train)]
    assert [h.tx_seq for h in sent] == list(range(len(sent)))
    assert all((h.type, h.session, h.epoch) == (MessageType.DATA, SESSION, EPOCH) for h in sent)
    ends = {(h.slab, h.row) for h in sent if h.flags & Flag.END_OF_SLAB}
    assert ends == {(0, ROWS - 1), (1, ROWS - 1), (2, 1)}


def test_what_is_in_flight_is_never_sent_again_however_long_the_report_takes(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(seen=0)
    assert bench.pump(0.9 * TIMEOUT_S) == []
    assert bench.beats[-1][1].header.flags & Flag.END_OF_PASS
    assert bench.now - bench.beats[-1][0] <= WAITING_BEAT_S


def test_what_is_held_is_left_to_repair(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(verified=0b1, held=(1, 2))
    assert bench.pump(1.0) == []


def test_what_is_neither_held_nor_verified_comes_again_and_nothing_else(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(verified=0b1, held=(2,))
    assert rows(bench.pump(1.0)) == [(1, row) for row in range(ROWS)]
    assert bench.sender.pass_number == 2


def test_a_report_overtaken_by_a_later_one_makes_nothing_come_again(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(held=(0, 1, 2))
    bench.report(held=(), seen=200)
    assert bench.pump(1.0) == []


def test_a_verified_set_from_an_earlier_run_is_not_sent(bench: Bench) -> None:
    bench.join(verified=0b101)
    assert rows(bench.pump(1.0)) == [(1, row) for row in range(ROWS)]


def test_the_carousel_goes_on_from_where_it_is(bench: Bench) -> None:
    bench.join(1, credit=ROWS * COLUMNS + 4 * COLUMNS)
    bench.pump(QUIET_S)
    bench.report(1, verified=0b1)
    bench.join(2)  # in slab 1: gets 2, then 0, and 1 when a report says that it missed its beginning
    assert [slab for slab, row in rows(bench.pump(0.1)) if row == 0] == [2, 0]
    bench.report(1, verified=0b111)
    bench.report(2, verified=0b101)
    assert [slab for slab, row in rows(bench.pump(0.1)) if row == 0] == [1]


def test_a_sender_all_of_whose_members_have_everything_is_silent(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(verified=0b111)
    beats = len(bench.beats)
    assert bench.pump(5.0) == []
    assert len(bench.beats) == beats
    bench.sender.remove_member(1)
    assert bench.sender.next_timeout(bench.now) is None


def test_no_row_straddles_the_wrap_of_tx_seq_whatever_repairs_came_between() -> None:
    """6 TB into a session; set here, since sending them would take a while."""
    bench = Bench(slabs=2)
    bench.sender._trains.seq = 2**32 - 20 * COLUMNS
    bench.join(credit=8 * COLUMNS)
    bench.pump(QUIET_S)
    bench.nack(0, b"\x01" * 5 + bytes(COLUMNS - 5))
    for _ in range(60):
        bench.report(held=(0,))
        bench.pump(0.01)
    sent = [headers(train) for train in bench.trains]
    for train in sent:
        assert [h.tx_seq for h in train] == list(range(train[0].tx_seq, train[0].tx_seq + len(train)))
        assert len(train) < COLUMNS or [h.column for h in train] == list(range(COLUMNS))
    full = [h.tx_seq + (h.tx_seq < 2**31) * 2**32 for train in sent for h in train]
    assert full == sorted(set(full))
    assert full[-1] > 2**32 + 100 * COLUMNS
    assert sum(b - a - 1 for a, b in pairwise(full)) < COLUMNS
    assert rows(bench.trains)[:ROWS] == [(0, row) for row in range(ROWS)]


# ---- members


def test_the_silent_are_told_of_revived_when_heard_and_at_last_forgotten(bench: Bench) -> None:
    bench.join()
    bench.pump(TIMEOUT_S + 1)
    assert [f for f in bench.facts if isinstance(f, MemberSilent)] == [MemberSilent(1)]
    assert not bench.sender.members[1].is_live
    bench.report()
    assert bench.sender.members[1].is_live
    bench.pump(100 * TIMEOUT_S)
    assert [type(f) for f in bench.facts if isinstance(f, MemberSilent | MemberForgotten)] == [
        MemberSilent, MemberSilent, MemberForgotten,
    ]  # fmt: skip
    assert not bench.sender.members
    assert bench.sender.next_timeout(bench.now) is None


def test_what_a_revived_member_lacks_comes(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(held=(0,))
    bench.pump(TIMEOUT_S + 1)
    sent = len(bench.trains)
    bench.report(verified=0b1)
    bench.pump(1.0)
    assert Counter(slab for slab, _ in rows(bench.trains[sent:])) == {1: ROWS, 2: 2}


def test_beats_name_the_first_sixteen_who_still_lack_something(bench: Bench) -> None:
    for member in range(40):
        bench.join(member + (1 << 40))
    bench.pump(1.0)
    assert bench.beats[-1][1].representatives == tuple(range(MAX_REPRESENTATIVES))
    assert bench.beats[-1][1].members == 40
    bench.report(1 << 40, verified=0b111)
    bench.sender.remove_member((1 << 40) + 1)
    bench.pump(0.2)
    assert bench.beats[-1][1].representatives == tuple(range(2, 2 + MAX_REPRESENTATIVES))


def test_the_back_off_window_grows_with_the_group(bench: Bench) -> None:
    bench.join(0)
    bench.pump(QUIET_S)
    assert headers(bench.trains[0])[0].nack_ms == 2
    for member in range(1, 1000):
        bench.join(member)
    bench.pump(1.0)
    assert bench.beats[-1][1].header.nack_ms == 50


def test_end_is_said_three_times_and_is_the_last(bench: Bench) -> None:
    bench.join()
    bench.pump(QUIET_S)
    bench.sender.end()
    assert bench.sender.next_timeout(bench.now) == bench.now
    for left in reversed(range(END_COPIES)):
        assert isinstance(bench.sender.poll_transmit(bench.now), Control)
        assert bench.sender.poll_transmit(bench.now) is None
        assert bench.sender.has_ended == (left == 0)
        bench.now += END_GAP_S
    assert bench.sender.poll_transmit(bench.now) is None


def test_nothing_grows_with_the_length_of_a_session() -> None:
    """Every slab loses something; one receiver keeps up, one died."""
    bench = Bench(slabs=300, rate_bit_s=1e9)
    bench.join(1)
    bench.join(2)
    bench.pump(QUIET_S)
    while not bench.sender.members[1].is_complete:
        slab = bench.trains[-1].slab if bench.trains else 0
        bench.nack(slab)
        bench.pump(0.05)
        bench.report(1, verified=(1 << slab) - 1 if slab < 299 else (1 << 300) - 1)
    bench.pump(0.5)
    asked = {f.slab for f in bench.facts if isinstance(f, ParityNeeded)}
    settled = {f.slab for f in bench.facts if isinstance(f, SlabSettled)}
    assert len(asked) > 250
    assert asked == settled


# ---- orders


def test_work_for_a_member_ends_with_its_orders(bench: Bench) -> None:
    bench.join(1)
    bench.join(2, verified=0b110)
    bench.pump(QUIET_S + 0.001)
    bench.sender.order(ControlCode.KICK, [1, 99], ControlReason.OPERATOR, bench.now)
    bench.nack(0, member=1)
    controls = bench.pump_controls(0.45)
    assert {(c.code, c.reason, c.members) for c in controls} == {(ControlCode.KICK, ControlReason.OPERATOR, (1,))}
    assert len(controls) == 5
    assert bench.sender.counters.repair_symbols == 0
    assert bench.reasons() == ["leaving_member"]
    bench.sender.remove_member(1)
    assert bench.pump_controls(0.5) == []


def test_orders_are_given_also_where_nobody_else_lacks_anything(bench: Bench) -> None:
    bench.join(1)
    bench.pump(1.0)
    bench.sender.order(ControlCode.FALL_BACK, [1], ControlReason.ENDGAME, bench.now)
    assert len(bench.pump_controls(5.0)) == pytest.approx(ORDER_S / ORDER_GAP_S, abs=1)
    assert bench.pump(1.0) == []


def test_who_was_told_to_move_may_come_back(bench: Bench) -> None:
    bench.join(1)
    bench.pump(QUIET_S + 0.001)
    bench.sender.order(ControlCode.MOVE, [1], ControlReason.SLOW, bench.now)
    bench.join(1, verified=0b110)
    assert bench.pump_controls(1.0) == []
    assert bench.sender.members[1].is_wanting


def test_an_order_to_end_is_for_all(bench: Bench) -> None:
    bench.join(1)
    bench.sender.order(ControlCode.END, [1], ControlReason.NONE, bench.now)
    assert [c.code for c in bench.pump_controls(1.0)] == [ControlCode.END] * END_COPIES
