# SPDX-License-Identifier: Apache-2.0
"""The receiver alone, with a sender written by hand: streams, losses, and the order in which they come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.multicast.receiver_bench import EVERY_COLUMN, Bench

from dpd.protocol.multicast.gaps import MAX_RETRY_S
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    Beat,
    Flag,
    MessageType,
)
from dpd.protocol.multicast.receiver import SessionFact
from dpd.protocol.multicast.reporting import FAST_REPORT_S
from dpd.protocol.multicast.slabs import START_ROWS
from dpd.protocol.multicast.train_headers import encode_row_headers


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


# ---- landing


def land(bench: Bench, slab: int, *, count: int = COLUMNS) -> int:
    """So many symbols of a slab land where the receiver expects the next ones. Returns how many it took."""
    place = bench.machine.landing()
    assert place is not None
    storage, first = place
    headers = bytearray(HEADER_BYTES * (first + count))
    for i in range(first, first + count):
        header = bench.header(slab, i // COLUMNS, column=i % COLUMNS, tx_seq=bench.seq + i - first)
        headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES] = header.encode()
    taken = bench.machine.take_landed(headers, storage, first, count, bench.now)
    bench.seq += taken
    bench.drive()
    return taken


def test_symbols_that_land_in_their_places_are_taken_there(bench: Bench) -> None:
    for _ in range(ROWS // 4):
        assert land(bench, 0, count=4 * COLUMNS) == 4 * COLUMNS
    assert [ready.assembly.slab for ready in bench.ready] == [0]
    assert bench.machine.counters.lost == 0


def test_a_place_beyond_the_end_of_the_short_last_slab_takes_nothing() -> None:
    """Found by fuzzing: a forged header that names the last slab, where the slab before it has come further than that."""
    bench = Bench(slabs=2, rows_of_last=4)
    for _ in range(10):
        land(bench, 0)
    assert land(bench, 1) == 0
    assert land(bench, 0) == COLUMNS


@pytest.mark.parametrize(("slab", "ahead"), [(2, 0), (40, 0), (0, 100_000), (0, -100)])
def test_what_landed_and_does_not_belong_there_is_left_to_be_taken_one_by_one(slab: int, ahead: int) -> None:
    bench = Bench(slabs=3)
    land(bench, 0)
    bench.seq += ahead
    assert land(bench, slab) == 0
    bench.seq -= ahead
    assert land(bench, 0) == COLUMNS
