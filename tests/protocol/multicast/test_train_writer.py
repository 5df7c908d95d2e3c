# SPDX-License-Identifier: Apache-2.0
"""The trains of a sender: parity that it promises and sends unasked, short trains, and what it tells of repairs to come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.protocol.multicast.sender_bench import ONE_EACH, QUIET_S, Bench, headers, rows

from dpd.protocol.multicast import promise
from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import Flag, MessageType
from dpd.protocol.multicast.sender import NCF_GAP_S, ParityNeeded, SlabSettled, Train

SLAB_SYMBOLS = ROWS * COLUMNS
TWO_EACH = b"\x02" * COLUMNS


def lossy(bench: Bench, deficits: bytes = TWO_EACH, slabs: int = 2) -> None:
    """So many slabs of each of whose columns two receivers lack `deficits`; then a promise is made."""
    for _ in range(slabs):
        slab = bench.trains[-1].slab
        bench.nack(slab, deficits)
        bench.pump(0.1)
        bench.report(1, held=(), free=1, verified=(1 << slab + 1) - 1)
        bench.pump(0.1)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """One slab at a time, by its free buffers; after three of them each gets the two rows that were always needed, as if
    it were for many."""
    monkeypatch.setattr(promise, "WASTE", promise.WASTE * promise.MANY)
    bench = Bench(slabs=40, rate_bit_s=1e9)
    bench.join(free_slabs=1)
    bench.pump(QUIET_S + 0.1)
    lossy(bench)
    return bench


def last_slab(bench: Bench) -> list[Train]:
    return [t for t in bench.trains if t.slab == bench.trains[-1].slab]


def test_what_was_always_needed_comes_unasked_behind_the_slab(bench: Bench) -> None:
    trains = last_slab(bench)
    assert [train.row for train in trains] == [*range(ROWS), ROWS, ROWS + 1]
    sent = [header for train in trains for header in headers(train)]
    assert all(h.promised_rows == 2 and not h.flags & Flag.REPAIR for h in sent)
    assert {h.row for h in sent if h.flags & Flag.END_OF_SLAB} == {ROWS + 1}
    assert {h.type for h in sent if h.row >= ROWS} == {MessageType.PARITY}
    assert bench.sender.counters.promised_symbols % (2 * COLUMNS) == 0


def test_its_parity_is_asked_for_when_the_slab_starts(bench: Bench) -> None:
    bench.report(1, free=1, verified=(1 << bench.trains[-1].slab + 1) - 1)
    bench.pump(0.001)
    slab = bench.trains[-1].slab
    assert len(last_slab(bench)) < 10
    assert bench.facts[-1] == ParityNeeded(slab, 0, 2)


def test_a_nack_that_crosses_what_is_promised_asks_for_nothing(bench: Bench) -> None:
    slab, end = bench.trains[-1].slab, bench.seq
    sent = len(bench.trains)
    bench.nack(slab, TWO_EACH, seen=end - 2 * COLUMNS)
    assert bench.pump(0.01) == []
    bench.nack(slab, b"\x03" * COLUMNS, seen=end - COLUMNS)
    assert [t.symbols for t in bench.pump(0.01)] == [
        [(ROWS + turn, column) for column in range(COLUMNS)] for turn in (2, 3)
    ], "one of the two promised was still on its way, and of the three that lacked then two were not promised"
    assert len(bench.trains) == sent + 2


def test_a_nack_in_the_middle_of_the_slab_asks_for_nothing_that_will_come(bench: Bench) -> None:
    bench.report(1, free=1, verified=(1 << bench.trains[-1].slab + 1) - 1)
    bench.pump(0.02)
    slab = bench.trains[-1].slab
    assert len(last_slab(bench)) < ROWS
    bench.nack(slab, TWO_EACH)
    bench.pump(0.1)
    assert [train.row for train in last_slab(bench)] == [*range(ROWS), ROWS, ROWS + 1]
    assert not any(train.is_repair for train in last_slab(bench))


def test_late_parity_keeps_nobody_waiting_and_follows_as_repairs(bench: Bench) -> None:
    bench.is_parity_late = True
    verified = (1 << bench.trains[-1].slab + 1) - 1
    bench.report(1, free=3, verified=verified)
    bench.pump(0.13)
    late = bench.trains[-1].slab - 1
    first = [t for t in bench.trains if t.slab == late]
    assert [t.row for t in first] == list(range(ROWS))
    assert not any(h.flags & Flag.END_OF_SLAB for t in first for h in headers(t))
    assert {h.promised_rows for t in first for h in headers(t)} == {2}
    bench.sender.provide_parity(late, 2)
    bench.pump(0.01)
    repairs = [t for t in bench.trains if t.slab == late and t.is_repair]
    assert [t.row for t in repairs] == [ROWS, ROWS + 1]
    assert all(h.flags & Flag.REPAIR for t in repairs for h in headers(t))
    assert headers(repairs[-1])[-1].flags & Flag.END_OF_SLAB


def test_when_nothing_is_lost_any_more_nothing_is_promised(bench: Bench) -> None:
    for _ in range(20):
        bench.report(1, free=1, verified=(1 << bench.trains[-1].slab + 1) - 1)
        bench.pump(0.15)
    assert [train.row for train in last_slab(bench)] == list(range(ROWS))


def test_a_slab_sent_again_goes_on_with_parity_never_sent(bench: Bench) -> None:
    slab = bench.trains[-1].slab
    bench.report(1, held=(), free=1, verified=(1 << slab) - 1)
    bench.sender._carousel._circle = slab - 1
    before = len(bench.trains)
    bench.pump(0.1)
    again = bench.trains[before:]
    assert {train.slab for train in again} == {slab}
    assert [train.row for train in again] == [*range(ROWS), ROWS + 2, ROWS + 3]


def test_the_parity_of_the_slab_in_turn_is_not_dropped_though_nobody_needs_it_any_more(bench: Bench) -> None:
    bench.join(2, verified=(1 << 30) - 1)
    bench.report(1, free=1, verified=(1 << bench.trains[-1].slab + 1) - 1)
    bench.pump(0.02)
    slab = bench.trains[-1].slab
    bench.sender.remove_member(1)
    bench.pump(0.25)
    dropped = [f for f in bench.facts if isinstance(f, SlabSettled) and f.slab == slab]
    assert [t.row for t in bench.trains if t.slab == slab] == [*range(ROWS), ROWS, ROWS + 1]
    assert len(dropped) == 1


# ---- what the others are told


def test_others_are_told_what_repair_is_coming_before_it_does() -> None:
    bench = Bench(slabs=3)
    bench.join(1)
    bench.join(2)
    bench.pump(1.0)
    bench.nack(1, b"\x03" + bytes(COLUMNS - 1))
    bench.nack(1, b"\x02" * 2 + bytes(COLUMNS - 2), member=2)
    seq = bench.seq
    (train,) = bench.pump(0.01)
    ((_, ncf),) = bench.ncfs
    assert [(s.slab, s.deficits) for s in ncf.slabs] == [(1, b"\x03\x02" + bytes(COLUMNS - 2))]
    assert ncf.header.tx_seq == seq
    assert headers(train)[0].tx_seq == seq + 1
    assert bench.sender.counters.ncfs == 1


def test_they_are_told_once_a_millisecond_at_most() -> None:
    bench = Bench(slabs=9, rate_bit_s=1e9)
    for member in range(20):
        bench.join(member)
    bench.pump(QUIET_S + 0.1)
    for step in range(200):
        bench.nack(bench.trains[-1].slab - 1, bytes([step // 2]) * COLUMNS, member=step % 20)
        bench.pump(0.0001)
    times = [time for time, _ in bench.ncfs]
    assert len(times) > 10
    assert min(b - a for a, b in pairwise(times)) >= NCF_GAP_S * 0.999


def test_one_alone_needs_no_telling() -> None:
    bench = Bench(slabs=3)
    bench.join()
    bench.pump(1.0)
    bench.nack(1, ONE_EACH)
    assert len(bench.pump(0.01)) == 1
    assert bench.ncfs == []


# ---- short trains


def test_on_a_slow_line_rows_leave_in_pieces_evenly_spaced() -> None:
    bench = Bench(slabs=1, rows_of_last=6, rate_bit_s=100e6)
    bench.join()
    trains = bench.pump(1.0)
    assert {train.count for train in trains} == {4}
    assert rows(trains) == []
    sent = [header for train in trains for header in headers(train)]
    assert [(h.row, h.column) for h in sent] == [(row, column) for row in range(6) for column in range(COLUMNS)]
    assert [h.tx_seq for h in sent] == list(range(6 * COLUMNS))
    assert [(h.row, h.column) for h in sent if h.flags & Flag.END_OF_SLAB] == [(5, c) for c in range(28, 32)]
    bench.nack(0, TWO_EACH)
    repairs = bench.pump(0.1)
    assert {train.count for train in repairs} == {4}
    assert sum(train.count for train in repairs) == 2 * COLUMNS
