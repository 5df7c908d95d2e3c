# SPDX-License-Identifier: Apache-2.0
"""The receiver alone, with a sender written by hand: what it asks for, what it says, and what cannot mislead it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.gaps import MAX_RETRY_S
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    Beat,
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    Tally,
)
from dpd.protocol.multicast.receiver import (
    FAST_REPORT_S,
    MAX_LATE,
    REPORT_S,
    SILENCE_S,
    START_ROWS,
    Ignored,
    Receiver,
    SessionFact,
    SlabReady,
)
from dpd.protocol.multicast.train_headers import encode_row_headers

SESSION, EPOCH, MEMBER = 77, 5, 0xABCD_0000_0009
FROM = ("192.0.2.1", 4000)
NACK_MS = 2
EVERY_COLUMN = range(COLUMNS)


class Bench:
    """A receiver, a clock, and the sender's side of the wire. `rows_of_last` rows in the last of `slabs`."""

    def __init__(
        self, slabs: int = 3, rows_of_last: int = ROWS, *, slots: int = 4, credit: int = 4000, verified: int = 0
    ) -> None:
        self.geometry = Geometry((slabs - 1) * SLAB_BYTES + rows_of_last * ROW_BYTES)
        self.now = 10.0
        self.seq = 0
        self.machine = Receiver(
            session=SESSION, epoch=EPOCH, member=MEMBER, geometry=self.geometry, verified=verified, slots=slots,
            credit=credit, rng=random.Random(1), now=self.now,
        )  # fmt: skip
        self.nacks: list[Nack] = []
        self.reports: list[Report] = []
        self.facts: list[object] = []
        self.ready: list[SlabReady] = []

    # the wire

    def header(self, slab: int, row: int, *, flags: int = 0, column: int = 0, **changes: int) -> Header:
        kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
        seq = changes.pop("tx_seq", self.seq)
        return replace(
            Header(kind, SESSION, EPOCH, flags, slab, row, column, 0, seq, 1000, 0, NACK_MS),
            **changes,  # type: ignore[arg-type]
        )

    def row(self, slab: int, row: int, *, lost: Iterable[int] = (), whole: bool = True) -> None:
        """One row as it leaves the sender: as one train, or with columns lost as what is left of it."""
        is_last = row == self.geometry.rows(slab) - 1
        headers = encode_row_headers(self.header(slab, row, flags=Flag.END_OF_SLAB if is_last else 0))
        self.seq += COLUMNS
        lost = set(lost)
        kept = [headers[28 * c : 28 * c + 28] + bytes([slab]) * SYMBOL_BYTES for c in EVERY_COLUMN if c not in lost]
        if whole:
            self.train(b"".join(kept))
        else:
            for datagram in kept:
                self.train(datagram)

    def slab(self, slab: int, *, lost: Iterable[int] = (), rows: Iterable[int] | None = None) -> None:
        """A slab, all of it or these rows; `lost` columns of its first row are missing."""
        for row in range(self.geometry.rows(slab)) if rows is None else rows:
            self.row(slab, row, lost=lost if row == 0 else ())

    def repair(self, slab: int, row: int, column: int, *, is_end: bool = True) -> None:
        flags = Flag.REPAIR | (Flag.END_OF_SLAB if is_end else 0)
        self.train(self.header(slab, row, flags=flags, column=column).encode() + bytes(SYMBOL_BYTES))
        self.seq += 1

    def beat(
        self, position: int, *, flags: int = 0, names: tuple[int, ...] = (MEMBER & 0xFFFFFFFF,), **changes: int
    ) -> None:
        tx_seq = changes.pop("tx_seq", (self.seq - 1) & 0xFFFFFFFF)
        header = self.header(position, 0, flags=flags, type=MessageType.BEAT, tx_seq=tx_seq, **changes)
        self.train(Beat(header, position, 1, 1, names).encode())

    def train(self, train: bytes, segment_size: int = 0) -> None:
        size = len(train)
        segment = segment_size or (DATAGRAM_BYTES if size % DATAGRAM_BYTES == 0 else size)
        self.machine.receive_train(bytearray(train), size, segment, self.now)
        self.drive()

    # the owner

    def drive(self) -> None:
        if self.machine.next_timeout() <= self.now:
            self.machine.handle_timeout(self.now)
        while feedback := self.machine.poll_transmit(self.now):
            (self.nacks if isinstance(feedback, Nack) else self.reports).append(feedback)  # type: ignore[arg-type]
        while event := self.machine.next_event():
            (self.ready if isinstance(event, SlabReady) else self.facts).append(event)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.machine.next_timeout()) <= end:
            self.now = max(due, self.now + 1e-6)
            self.drive()
        self.now = end

    def store(self, ok: bool = True) -> None:
        """Answer every SlabReady."""
        for ready in self.ready:
            self.machine.provide_verified(ready.assembly, ok, self.now)
        self.ready.clear()
        self.drive()

    def wanted(self) -> dict[int, int]:
        """Slab -> symbols asked for, in the latest NACK."""
        return {s.slab: sum(s.deficits) for s in self.nacks[-1].slabs} if self.nacks else {}

    def reasons(self) -> list[str]:
        return [fact.reason for fact in self.facts if isinstance(fact, Ignored)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- the stream


def test_a_slab_without_loss_is_ready_at_its_last_symbol(bench: Bench) -> None:
    bench.slab(0)
    assert [ready.assembly.slab for ready in bench.ready] == [0]
    assert bench.ready[0].assembly.buffer == bytes(SLAB_BYTES)
    assert bench.machine.counters.lost == bench.machine.counters.duplicates == 0
    bench.wait(1.0)
    assert bench.nacks == []


@pytest.mark.parametrize("sizes", [[32], [1], [31, 1], [20, 45], [45], [7, 32, 25], [32, 20, 12]])
def test_trains_of_any_cut_lose_nothing(sizes: list[int]) -> None:
    """Receive offload merges as it likes: a whole row now and then, parts of two rows otherwise."""
    bench = Bench(slabs=1, rows_of_last=64)
    stream = b""
    for row in range(64):
        headers = encode_row_headers(bench.header(0, row, flags=Flag.END_OF_SLAB if row == 63 else 0))
        stream += b"".join(headers[28 * c : 28 * c + 28] + bytes([row]) * SYMBOL_BYTES for c in EVERY_COLUMN)
        bench.seq += COLUMNS
    at, turn = 0, 0
    while at < len(stream):
        end = at + sizes[turn % len(sizes)] * DATAGRAM_BYTES
        bench.train(stream[at:end])
        at, turn = end, turn + 1
    assert len(bench.ready) == 1
    assert bench.ready[0].assembly.buffer == b"".join(bytes([row]) * ROW_BYTES for row in range(64))
    assert bench.machine.counters.symbols == 64 * COLUMNS
    assert bench.machine.counters.lost == 0


def test_a_beat_merged_behind_a_row_is_read_too(bench: Bench) -> None:
    bench.slab(0, rows=range(3))
    headers = encode_row_headers(bench.header(0, 3))
    row = b"".join(headers[28 * c : 28 * c + 28] + bytes(SYMBOL_BYTES) for c in EVERY_COLUMN)
    beat = Beat(bench.header(0, 0, type=MessageType.BEAT, tx_seq=bench.seq + 31), 0, 1, 1).encode()
    bench.train(row + beat, segment_size=DATAGRAM_BYTES)
    assert bench.machine.counters.symbols == 4 * COLUMNS
    assert not bench.machine.is_representative


def test_a_slab_joined_in_the_middle_is_left_for_its_next_turn(bench: Bench) -> None:
    bench.slab(0, rows=range(START_ROWS + 1, ROWS))
    bench.slab(1)
    bench.wait(1.0)
    assert [ready.assembly.slab for ready in bench.ready] == [1]
    assert bench.nacks == []
    assert bench.machine.counters.lost == 0, "what was sent before we joined is not lost"
    assert 0 not in bench.reports[-1].held


def test_a_slab_whose_first_rows_are_lost_is_taken_up_all_the_same(bench: Bench) -> None:
    bench.slab(0)
    bench.seq += START_ROWS * COLUMNS
    bench.slab(1, rows=range(START_ROWS, ROWS))
    bench.beat(2)
    bench.wait(0.01)
    assert bench.wanted() == {1: START_ROWS * COLUMNS}


def test_memory_is_bounded_by_the_slots() -> None:
    bench = Bench(slabs=9, slots=4)
    for slab in range(9):
        bench.slab(slab, lost=[1])
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.wait(0.1)
    assert bench.machine.buffers == 4
    assert bench.reports[-1].held == (0, 1, 2, 3)
    assert bench.reports[-1].free_slabs == 0
    assert bench.machine.counters.without_buffer > 0
    for slab in range(4):
        bench.repair(slab, ROWS, 1)
    bench.store()
    for slab in range(4, 9):
        bench.slab(slab)
        bench.store()
    assert bench.facts == [SessionFact.FINISHED]
    assert bench.machine.buffers == 4


def test_a_verified_slab_takes_no_buffer_and_is_never_asked_for() -> None:
    bench = Bench(verified=0b10)
    bench.slab(1, lost=[0, 1])
    bench.beat(2)
    bench.wait(1.0)
    assert bench.machine.buffers == 0
    assert bench.nacks == []


# ---- loss


def test_a_gap_is_asked_for_when_the_slab_has_passed_and_not_before(bench: Bench) -> None:
    bench.slab(0, lost=[3, 4], rows=range(ROWS - 1))
    bench.wait(0.5)
    assert bench.nacks == []
    bench.row(0, ROWS - 1)
    bench.wait(0.01)
    assert bench.wanted() == {0: 2}
    assert bench.nacks[0].slabs[0].deficits == bytes(c in (3, 4) for c in EVERY_COLUMN)
    assert bench.nacks[0].seen_seq == bench.seq - 1


def test_an_unanswered_question_is_repeated_ever_more_slowly(bench: Bench) -> None:
    bench.slab(0, lost=[3])
    bench.wait(0.1)
    first = len(bench.nacks)
    bench.wait(2.5)
    late = len(bench.nacks)
    assert 2 <= first <= 4
    assert late - first <= 7
    bench.wait(10 * MAX_RETRY_S)
    assert 9 <= len(bench.nacks) - late <= 11


def test_any_repair_mends_and_an_insufficient_one_is_asked_about_at_once(bench: Bench) -> None:
    bench.slab(0, lost=[3, 4])
    bench.wait(0.01)
    bench.repair(0, ROWS + 9, 3)
    bench.wait(0.01)
    assert bench.wanted() == {0: 1}
    bench.repair(0, 0, 4)
    assert [ready.assembly.slab for ready in bench.ready] == [0]
    asked = len(bench.nacks)
    bench.wait(2.0)
    assert len(bench.nacks) == asked


def test_a_lost_tail_shows_in_the_next_beat_that_ends_the_pass(bench: Bench) -> None:
    bench.slab(0, rows=range(ROWS - 2))
    bench.seq += 2 * COLUMNS
    bench.beat(0)
    bench.wait(0.05)
    assert bench.nacks == []
    assert bench.reports[-1].seen_seq == bench.seq - 1, "the sender's credit must not hang on a tail that was lost"
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.wait(0.01)
    assert bench.wanted() == {0: 2 * COLUMNS}


def test_a_slab_lost_whole_before_anything_was_seen_is_reported_as_missing(bench: Bench) -> None:
    """The switch opened its port too late for an image of one slab: only BEATs come. Their number tells the sender that
    nothing more is on the way, or both would wait for each other."""
    bench.seq = ROWS * COLUMNS
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.wait(0.05)
    assert bench.reports[-1].seen_seq == bench.seq - 1
    assert bench.reports[-1].held == ()
    bench.slab(0)
    assert len(bench.ready) == 1


def test_the_beat_before_the_first_symbol_counts_as_none_lost(bench: Bench) -> None:
    bench.beat(0)
    bench.slab(0)
    assert bench.machine.counters.lost == 0
    assert len(bench.ready) == 1


def test_a_damaged_slab_is_given_up_and_reported_as_missing(bench: Bench) -> None:
    bench.slab(0)
    assert bench.reports == [] or 0 in bench.reports[-1].held or bench.reports[-1].verified == 0
    bench.store(ok=False)
    bench.wait(FAST_REPORT_S)
    assert (bench.reports[-1].held, bench.reports[-1].verified) == ((), 0)
    assert bench.machine.counters.bad_slabs == 1
    bench.slab(1)
    bench.slab(0)
    bench.store()
    assert bench.machine.verified == 0b11


# ---- order


def test_a_row_that_comes_late_fills_its_place(bench: Bench) -> None:
    bench.row(0, 0)
    late, bench.seq = bench.seq, bench.seq + COLUMNS
    bench.slab(0, rows=range(2, ROWS))
    assert bench.machine.counters.lost == COLUMNS
    bench.seq, now = late, bench.seq
    bench.row(0, 1)
    bench.seq = now
    assert len(bench.ready) == 1
    assert bench.machine.counters.lost == 0
    bench.wait(1.0)
    assert bench.nacks == []


def test_a_late_symbol_of_a_slab_that_was_not_begun_begins_nothing(bench: Bench) -> None:
    """Nobody would ever ask for the rest of it, while the sender believed it held."""
    bench.slab(0)
    bench.store()
    bench.seq += COLUMNS * ROWS  # slab 1 is lost
    bench.slab(2)
    bench.seq, now = 130 * COLUMNS, bench.seq
    bench.row(1, 2)
    bench.row(1, 3, lost=[4])
    bench.seq = now
    bench.beat(2, flags=Flag.END_OF_PASS)
    bench.wait(0.05)
    assert bench.reports[-1].held == (2,)


def test_a_beat_that_comes_late_does_not_end_the_slab(bench: Bench) -> None:
    bench.slab(0)
    at_end_of_0 = bench.seq - 1
    bench.slab(1, rows=range(40))
    bench.beat(0, tx_seq=at_end_of_0)
    bench.wait(0.05)
    assert bench.nacks == []
    bench.slab(1, rows=range(40, ROWS))
    assert len(bench.ready) == 2


def test_a_slab_sent_again_is_not_asked_for_while_it_comes(bench: Bench) -> None:
    bench.slab(0, lost=[1])
    bench.slab(1, rows=range(3))
    asked = len(bench.nacks)
    bench.slab(0, rows=range(1, 60))
    bench.wait(0.5)
    assert 0 not in {s.slab for nack in bench.nacks[asked:] for s in nack.slabs}
    bench.slab(1, rows=range(3, 6))
    bench.wait(0.01)
    assert 0 in bench.wanted()


def test_duplicates_count_and_change_nothing(bench: Bench) -> None:
    bench.row(0, 0, whole=False)
    bench.seq -= COLUMNS
    bench.row(0, 0, whole=False)
    assert bench.machine.counters.duplicates == COLUMNS
    assert bench.machine.counters.lost <= 0
    bench.slab(0, rows=range(1, ROWS))
    assert len(bench.ready) == 1


def test_the_numbers_go_on_after_the_wrap() -> None:
    bench = Bench(slabs=2)
    bench.seq = 2**32 - 64 * COLUMNS
    headers_before = bench.header
    bench.header = lambda *a, **k: replace(headers_before(*a, **k), tx_seq=k.get("tx_seq", bench.seq) & 0xFFFFFFFF)  # type: ignore[method-assign]
    bench.slab(0, lost=[5])
    bench.slab(1)
    bench.wait(FAST_REPORT_S)
    assert bench.machine.counters.lost == 1
    assert bench.wanted() == {0: 1}
    assert bench.reports[-1].seen_seq == bench.seq - 1 - 2**32


# ---- what is not for us


def test_another_sessions_stream_is_no_sign_of_life(bench: Bench) -> None:
    """The daemon was restarted and serves the same image on the same group: whoever still waits must join again."""
    bench.slab(0, rows=range(10))
    lost_at = bench.now
    while SessionFact.SILENT not in bench.facts:
        bench.wait(0.1)
        headers = encode_row_headers(bench.header(0, 11, session=SESSION + 1))
        bench.train(b"".join(headers[28 * c : 28 * c + 28] + bytes(SYMBOL_BYTES) for c in EVERY_COLUMN))
        assert bench.now - lost_at < 2 * SILENCE_S
    assert set(bench.reasons()) == {"other_session"}
    assert bench.machine.counters.symbols == 10 * COLUMNS


def test_silence_is_told_once_per_period(bench: Bench) -> None:
    bench.wait(SILENCE_S - 0.1)
    assert bench.facts == []
    bench.wait(0.2)
    assert bench.facts == [SessionFact.SILENT]


def test_beats_alone_are_a_sign_of_life(bench: Bench) -> None:
    for _ in range(50):
        bench.beat(0)
        bench.wait(0.2)
    assert bench.facts == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": EPOCH + 1}, "other_session"),
        ({"session": SESSION ^ 0x80000000}, "other_session"),
        ({"slab": 3}, "out_of_range"),
        ({"row": 200, "type": MessageType.DATA}, "out_of_range"),
        ({"row": 127, "type": MessageType.PARITY}, "out_of_range"),
        ({"row": 255, "type": MessageType.PARITY}, "out_of_range"),
        ({"row": 65535, "type": MessageType.PARITY}, "out_of_range"),
        ({"type": MessageType.NACK}, "wrong_length"),
    ],
)
def test_a_strange_datagram_is_counted_and_takes_nothing(bench: Bench, changes: dict[str, int], reason: str) -> None:
    header = replace(bench.header(0, 0), **changes)  # type: ignore[arg-type]
    bench.train(header.encode() + bytes(SYMBOL_BYTES))
    assert bench.reasons() == [reason]
    assert bench.machine.buffers == 0
    assert bench.machine.counters.symbols == 0


def test_a_row_of_a_slab_beyond_the_last_takes_nothing(bench: Bench) -> None:
    headers = encode_row_headers(bench.header(3, 0))
    bench.train(b"".join(headers[28 * c : 28 * c + 28] + bytes(SYMBOL_BYTES) for c in EVERY_COLUMN))
    assert bench.reasons() == ["out_of_range"] * COLUMNS
    assert bench.machine.buffers == 0


def test_feedback_seen_on_the_group_is_not_from_the_sender(bench: Bench) -> None:
    bench.train(Report(Header(MessageType.REPORT, SESSION, EPOCH), 1, 0, 0, 0, 0, Tally(), (), 0, 8, 1).encode())
    assert bench.reasons() == ["not_from_sender"]


@pytest.mark.parametrize("ahead", [500, 3 * MAX_LATE, 1 << 31])
def test_a_damaged_number_is_corrected_by_the_next_beat(bench: Bench, ahead: int) -> None:
    bench.slab(0, rows=range(5))
    bench.row(0, 5, lost=[9])
    bench.train(bench.header(0, 6, tx_seq=bench.seq + ahead).encode() + bytes(SYMBOL_BYTES))
    bench.seq += COLUMNS
    bench.slab(0, rows=range(7, ROWS))
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.wait(0.05)
    assert bench.reports[-1].seen_seq == bench.seq - 1
    assert bench.wanted() == {0: COLUMNS - 1 + 1}


def test_a_damaged_first_number_is_corrected_too(bench: Bench) -> None:
    bench.train(bench.header(0, 0, tx_seq=0x9000_0000).encode() + bytes(SYMBOL_BYTES))
    bench.seq += 1
    bench.slab(0, rows=range(1, ROWS))
    bench.beat(0)
    assert bench.reports[-1].seen_seq == bench.seq - 1


def test_a_back_off_window_beyond_reason_is_not_waited_for(bench: Bench) -> None:
    bench.row(0, 0, lost=[1])
    bench.train(bench.header(0, 1, nack_ms=65535).encode() + bytes(SYMBOL_BYTES))
    bench.seq += 1
    bench.beat(0, flags=Flag.END_OF_PASS, nack_ms=65535)
    bench.wait(0.2)
    assert bench.nacks


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=3000), st.integers(1, 1500))
def test_arbitrary_trains_are_ignored_with_a_reason(train: bytes, segment_size: int) -> None:
    bench = Bench(slabs=1, rows_of_last=2)
    bench.machine.receive_train(bytearray(train), len(train), segment_size, bench.now)
    bench.drive()
    assert len(bench.reasons()) == max(-(-len(train) // segment_size), 1)


def test_an_empty_datagram_is_counted() -> None:
    bench = Bench()
    bench.machine.receive_datagram(b"", FROM, bench.now)
    bench.drive()
    assert bench.reasons() == ["too_short"]


# ---- what it says


def test_the_end_of_the_session_is_told(bench: Bench) -> None:
    bench.train(Control(Header(MessageType.CONTROL, SESSION, EPOCH, row=ControlCode.END)).encode())
    assert bench.facts == [SessionFact.ENDED]


def test_the_last_slab_finishes_and_the_last_report_says_so(bench: Bench) -> None:
    for slab in range(3):
        bench.slab(slab)
    bench.store()
    assert bench.facts == [SessionFact.FINISHED]
    assert bench.reports[-1].verified == bench.geometry.every_slab


def test_a_representative_reports_before_its_credit_is_spent() -> None:
    bench = Bench(credit=400)
    bench.slab(0, rows=range(50))
    seen = [report.seen_seq for report in bench.reports]
    assert max(b - a for a, b in zip([-1, *seen], seen, strict=False)) <= 400 // 2


def test_who_is_not_named_in_the_beat_reports_once_a_second() -> None:
    bench = Bench(credit=400)
    bench.beat(0, names=(1, 2))
    bench.reports.clear()
    for _ in range(300):
        bench.row(0, 1)
        bench.wait(0.01)
    assert len(bench.reports) == pytest.approx(3 / REPORT_S, abs=1)
    bench.beat(0)
    bench.row(0, 2)
    bench.reports.clear()
    bench.wait(1.0)
    assert len(bench.reports) >= 0.9 / FAST_REPORT_S


@pytest.mark.parametrize(("nack_ms", "most"), [(2, 60), (50, 3)])
def test_a_waiting_sender_is_answered_less_often_in_a_large_group(nack_ms: int, most: int) -> None:
    bench = Bench()
    bench.slab(0)
    bench.store()
    bench.reports.clear()
    for _ in range(50):
        bench.beat(0, flags=Flag.END_OF_PASS, names=(), nack_ms=nack_ms)
        bench.wait(0.02)
    assert 2 <= len(bench.reports) <= most


def test_a_report_echoes_the_senders_clock(bench: Bench) -> None:
    bench.slab(0, rows=range(4))
    sent_at = bench.now
    bench.wait(FAST_REPORT_S)
    report = bench.reports[-1]
    assert report.echo_time == 1000
    assert report.echo_delay_us == pytest.approx((report_time(bench, sent_at)) * 1e6, abs=1000)


def report_time(bench: Bench, sent_at: float) -> float:
    """How long after `sent_at` the latest report left: reports of an idle representative come every FAST_REPORT_S."""
    return bench.machine.next_timeout() - FAST_REPORT_S - sent_at


def test_loss_in_the_own_socket_is_told_apart_from_the_networks(bench: Bench) -> None:
    bench.row(0, 0)
    bench.row(0, 1, lost=range(10))
    bench.machine.counters.socket_drops = 6
    bench.wait(FAST_REPORT_S)
    assert (bench.reports[-1].tally.lost, bench.reports[-1].tally.socket_drops) == (4, 6)
