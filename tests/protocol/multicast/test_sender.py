# SPDX-License-Identifier: Apache-2.0
"""The sender alone, with feedback written by hand: what goes out, in which order, and what must never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    MAX_REPRESENTATIVES,
    Beat,
    Control,
    ControlCode,
    ControlReason,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
    decode_header,
)
from dpd.protocol.multicast.orders import ORDER_GAP_S, ORDER_S
from dpd.protocol.multicast.pacing import STALL_S, TokenBucket
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import (
    BEAT_S,
    END_COPIES,
    END_GAP_S,
    WAITING_BEAT_S,
    WIRE_OVERHEAD_BYTES,
    Ignored,
    MemberForgotten,
    MemberSilent,
    ParityNeeded,
    Sender,
    SlabSettled,
    Train,
)

SESSION, EPOCH = 77, 5
QUIET_S = 0.25
TIMEOUT_S = 10.0
FROM = ("192.0.2.1", 4000)
ONE_EACH = b"\x01" * COLUMNS


class Bench:
    """A sender, a clock, and everything that came out of it. Parity is there as soon as it is asked for."""

    def __init__(self, slabs: int = 3, rows_of_last: int = 2, rate_bit_s: float = 0.0) -> None:
        self.geometry = Geometry((slabs - 1) * SLAB_BYTES + rows_of_last * ROW_BYTES)
        self.bucket = TokenBucket(rate_bit_s, ROW_BYTES, 0.0)
        self.sender = Sender(
            session=SESSION, epoch=EPOCH, geometry=self.geometry, bucket=self.bucket,
            member_timeout_s=TIMEOUT_S, schedule=Schedule(QUIET_S, 4 * QUIET_S),
        )  # fmt: skip
        self.now = 0.0
        self.trains: list[Train] = []
        self.beats: list[tuple[float, Beat]] = []
        self.controls: list[Control] = []
        self.facts: list[object] = []

    def join(self, member: int = 1, *, verified: int = 0, credit: int = 1 << 20, free_slabs: int = 1000) -> None:
        self.sender.add_member(member, verified=verified, credit=credit, free_slabs=free_slabs, now=self.now)

    def pump(self, seconds: float = 0.0) -> list[Train]:
        """Let the sender do all it wants for a time. Returns the new trains."""
        before, end = len(self.trains), self.now + seconds
        while True:
            self.sender.handle_timeout(self.now)
            while out := self.sender.poll_transmit(self.now):
                if isinstance(out, Train):
                    self.trains.append(out)
                elif isinstance(out, Beat):
                    self.beats.append((self.now, out))
                else:
                    self.controls.append(out)
                self._take_events()
            if self._take_events():
                continue
            due = self.sender.next_timeout(self.now)
            if due is None or due > end:
                self.now = end
                return self.trains[before:]
            self.now = max(due, self.now + 1e-6)

    def pump_controls(self, seconds: float) -> list[Control]:
        """The orders that are said meanwhile."""
        before = len(self.controls)
        self.pump(seconds)
        return self.controls[before:]

    def _take_events(self) -> bool:
        asked = False
        while event := self.sender.next_event():
            self.facts.append(event)
            if isinstance(event, ParityNeeded):
                self.sender.provide_parity(event.slab, event.first + event.count)
                asked = True
        return asked

    @property
    def seq(self) -> int:
        """The tx_seq of the last symbol sent."""
        return decode_header(self.trains[-1].headers[-HEADER_BYTES:]).tx_seq if self.trains else -1

    def report(
        self, member: int = 1, *, verified: int = 0, held: Iterable[int] = (), free: int = 1000, seen: int | None = None
    ) -> None:
        header = Header(MessageType.REPORT, SESSION, EPOCH)
        seen = self.seq if seen is None else seen
        count = self.geometry.slab_count
        self.hear(Report(header, member, seen, 0, 0, free, Tally(), tuple(held), 0, count, verified))

    def nack(self, slab: int, deficits: bytes = ONE_EACH, member: int = 1, seen: int | None = None) -> None:
        header = Header(MessageType.NACK, SESSION, EPOCH)
        self.hear(Nack(header, member, self.seq if seen is None else seen, (SlabDeficits(slab, deficits),)))

    def hear(self, message: Nack | Report | Beat) -> None:
        self.sender.receive_datagram(message.encode(), FROM, self.now)

    def reasons(self) -> list[str]:
        self._take_events()
        return [fact.reason for fact in self.facts if isinstance(fact, Ignored)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def rows(trains: Iterable[Train]) -> list[tuple[int, int]]:
    """(slab, row) of the trains that are whole source rows in their turn."""
    return [(train.slab, train.row) for train in trains if train.symbols is None]


def headers(train: Train) -> list[Header]:
    return [decode_header(train.headers[i : i + HEADER_BYTES]) for i in range(0, len(train.headers), HEADER_BYTES)]


WHOLE_OBJECT = [(0, row) for row in range(ROWS)] + [(1, row) for row in range(ROWS)] + [(2, 0), (2, 1)]


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
    bench.sender._seq = 2**32 - 20 * COLUMNS
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


# ---- repair


def test_a_nack_brings_parity_marked_as_repair_and_its_end(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.nack(1, b"\x02" + bytes(COLUMNS - 1))
    (train,) = bench.pump(0.01)
    assert train.symbols == [(ROWS, 0), (ROWS + 1, 0)]
    assert [h.type for h in headers(train)] == [MessageType.PARITY] * 2
    assert [h.flags for h in headers(train)] == [Flag.REPAIR, Flag.REPAIR | Flag.END_OF_SLAB]


def test_repairs_and_new_rows_take_turns() -> None:
    bench = Bench(slabs=3)
    bench.join(credit=(ROWS + 1) * COLUMNS)
    bench.pump(QUIET_S)
    bench.nack(0, b"\x08" * COLUMNS)
    bench.report(held=(0,))
    kinds = [train.symbols is None for train in bench.pump(0.01)][:4]
    assert kinds.count(True) == kinds.count(False) == 2


@pytest.mark.parametrize("deficits", [b"\xff" * COLUMNS, bytes([ROWS]) * COLUMNS])
def test_no_deficit_makes_the_sender_send_more_than_the_slab_has(bench: Bench, deficits: bytes) -> None:
    bench.join()
    bench.pump(1.0)
    seen = bench.seq
    for _ in range(50):
        bench.nack(2, deficits, seen=seen)
        bench.pump(0.01)
    assert bench.sender.counters.repair_symbols <= 2 * COLUMNS


def test_when_parity_is_exhausted_originals_come_again(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    for _ in range(2):
        bench.nack(0, b"\x80" + bytes(COLUMNS - 1))
        bench.pump(0.1)
    symbols = [symbol for train in bench.trains for symbol in train.symbols or ()]
    assert symbols[127:] == [*((row, 0) for row in range(ROWS)), (ROWS, 0)]
    assert max(e.first + e.count for e in bench.facts if isinstance(e, ParityNeeded)) == 127


def test_a_nack_for_a_slab_that_its_receiver_has_verified_is_late(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    bench.report(verified=0b1, held=(1, 2))
    bench.nack(0)
    assert bench.pump(0.5) == []


def test_repair_state_goes_with_the_need_for_it(bench: Bench) -> None:
    bench.join(1)
    bench.pump(1.0)
    for slab in range(3):
        bench.nack(slab)
    bench.pump(0.1)
    bench.report(1, verified=0b011, held=(2,))
    bench.pump(0.5)
    assert [f.slab for f in bench.facts if isinstance(f, SlabSettled)] == [0, 1]
    bench.sender.remove_member(1)
    bench.pump()
    assert [f.slab for f in bench.facts if isinstance(f, SlabSettled)] == [0, 1, 2]


def test_a_late_joiner_does_not_keep_the_parity_of_all_that_it_lacks() -> None:
    """Else a session with losses keeps parity rows of the whole image in memory until that one is through."""
    bench = Bench(slabs=40)
    bench.join(1, credit=30 * ROWS * COLUMNS)
    bench.pump(QUIET_S)
    for slab in range(20):
        bench.nack(slab)
    bench.join(2, credit=10 * ROWS * COLUMNS)
    bench.report(1, verified=(1 << 30) - 1)
    bench.report(2)
    bench.pump(0.5)
    assert {f.slab for f in bench.facts if isinstance(f, SlabSettled)} >= set(range(1, 20))


# ---- feedback that is none


def test_feedback_of_strangers_changes_nothing_and_is_counted(bench: Bench) -> None:
    bench.join(1)
    bench.pump(1.0)
    deficits = (SlabDeficits(0, ONE_EACH),)
    count = bench.geometry.slab_count
    bench.nack(0, member=2)
    bench.hear(Nack(Header(MessageType.NACK, SESSION + 1, EPOCH), 1, 0, deficits))
    bench.hear(Nack(Header(MessageType.NACK, SESSION, EPOCH + 1), 1, 0, deficits))
    bench.hear(Beat(Header(MessageType.BEAT, SESSION, EPOCH), 0, 0, 0))
    bench.sender.receive_datagram(b"\0", FROM, bench.now)
    bench.hear(Report(Header(MessageType.REPORT, SESSION, EPOCH), 1, 0, 0, 0, 0, Tally(), (), 0, count + 8, 1))
    bench.nack(count)
    assert bench.pump(0.5) == []
    assert bench.reasons() == [
        "unknown_member", "other_session", "other_session", "not_feedback", "too_short", "out_of_range", "out_of_range",
    ]  # fmt: skip


def test_repair_of_a_slab_that_was_never_sent_is_not_for_anyone() -> None:
    bench = Bench(slabs=9)
    bench.join(credit=4 * COLUMNS)
    bench.pump(QUIET_S)
    bench.nack(7, b"\xff" * COLUMNS)
    bench.pump(0.1)
    assert bench.reasons() == ["out_of_range"]
    assert bench.sender.counters.repair_symbols == 0


def test_a_symbol_sent_back_is_no_feedback(bench: Bench) -> None:
    bench.join()
    symbol = Symbol(Header(MessageType.DATA, SESSION, EPOCH), bytes(DATAGRAM_BYTES - HEADER_BYTES))
    bench.sender.receive_datagram(symbol.header.encode() + symbol.payload, FROM, 0.0)
    assert bench.reasons() == ["not_feedback"]


def test_seen_numbers_from_the_future_give_no_credit() -> None:
    bench = Bench(slabs=9)
    bench.join(credit=4 * COLUMNS)
    bench.pump(QUIET_S)
    for seen in (bench.seq + 1, bench.seq + 5000, 2**31, 2**32 - 1):
        bench.report(seen=seen)
    assert bench.pump(0.1) == []


# ---- holding back


def test_the_sender_stays_within_the_credit_of_the_slowest() -> None:
    bench = Bench(slabs=9)
    bench.join(1, credit=100 * COLUMNS)
    bench.join(2, credit=6 * COLUMNS)
    assert len(bench.pump(QUIET_S)) == 6
    bench.report(1)
    assert bench.pump(0.1) == []
    bench.report(2)
    assert len(bench.pump(0.1)) == 6


@pytest.mark.parametrize("credit", [0, 1, COLUMNS, 2 * COLUMNS])
def test_the_smallest_credit_still_lets_the_session_go_on(credit: int) -> None:
    bench = Bench(slabs=1, rows_of_last=40)
    bench.join(credit=credit)
    bench.pump(QUIET_S)
    for _ in range(40):
        bench.report(held=(0,))
        bench.pump(0.001)
    assert rows(bench.trains) == [(0, row) for row in range(40)]


def test_one_that_died_stops_the_others_for_a_second_once() -> None:
    bench = Bench(slabs=40, rate_bit_s=1e9)
    bench.join(1, credit=1000)
    bench.join(2, credit=1000)
    sent = []
    while bench.now < 4.0:
        sent.append((bench.now, len(bench.pump(0.01))))
        bench.report(2, verified=(1 << max(bench.trains[-1].slab if bench.trains else 0, 0)) - 1)
    stopped = sum(0.01 for time, trains in sent if trains == 0 and QUIET_S < time < 2.3)
    assert stopped <= STALL_S + 0.05


def test_one_that_died_alone_is_sent_to_after_a_second_and_until_it_is_silent() -> None:
    bench = Bench(slabs=4)
    bench.join(credit=64)
    bench.pump(QUIET_S)
    assert len(bench.trains) == 2
    bench.pump(STALL_S + 0.1)
    assert len(rows(bench.trains)) == 3 * ROWS + 2, "once, and what is under way is not sent again"
    beats = len(bench.beats)
    bench.pump(TIMEOUT_S)
    assert bench.pump(60.0) == []
    assert len(bench.beats) - beats < TIMEOUT_S / WAITING_BEAT_S + 2


def test_a_slab_waits_for_a_free_buffer() -> None:
    bench = Bench(slabs=9)
    bench.join(free_slabs=2)
    assert {slab for slab, _ in rows(bench.pump(QUIET_S))} == {0, 1}
    assert bench.beats[-1][1].header.flags & Flag.END_OF_PASS or bench.pump(2 * WAITING_BEAT_S) == []
    assert bench.beats[-1][1].header.flags & Flag.END_OF_PASS, "the tail of slab 1 may be lost: let it be asked for"
    bench.report(verified=0b1, held=(1,), free=1)
    assert {slab for slab, _ in rows(bench.pump(0.1))} == {2}


def test_slabs_a_receiver_has_need_no_buffer_of_it() -> None:
    bench = Bench(slabs=9)
    bench.join(1, verified=0b0_1111_1111, free_slabs=1)
    bench.join(2)
    assert {slab for slab, _ in rows(bench.pump(QUIET_S))} == set(range(9))


def test_the_ceiling_is_kept_on_the_wire() -> None:
    bench = Bench(slabs=9, rate_bit_s=100e6)
    bench.join()
    bench.pump(QUIET_S)
    bits = sum(t.count for t in bench.pump(1.0)) * (DATAGRAM_BYTES + WIRE_OVERHEAD_BYTES) * 8
    assert bits == pytest.approx(100e6, rel=0.01)


def test_repairs_keep_the_pace_of_the_ceiling_though_new_slabs_wait() -> None:
    """Waiting for a buffer must not put repairs, which free it, on the clock of the BEATs."""
    bench = Bench(slabs=4, rate_bit_s=1e9)
    bench.join(free_slabs=1)
    bench.pump(QUIET_S + 0.5)
    bench.nack(0, b"\x40" * COLUMNS)
    start = bench.now
    repairs = len(bench.pump(0.1))
    assert repairs == 64
    assert bench.now - start < 0.2


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
