# SPDX-License-Identifier: Apache-2.0
"""What holds the sender back, and for how long."""

from __future__ import annotations

import pytest
from tests.protocol.multicast.sender_bench import (
    QUIET_S,
    TIMEOUT_S,
    Bench,
    headers,
    rows,
)

from dpd.protocol.multicast.brake import PROBE_S
from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    Flag,
)
from dpd.protocol.multicast.pacing import STALL_S
from dpd.protocol.multicast.sender import (
    WAITING_BEAT_S,
    WIRE_OVERHEAD_BYTES,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


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


def test_one_that_stood_still_alone_is_asked_by_a_train_now_and_then_until_it_is_silent() -> None:
    bench = Bench(slabs=4)
    bench.join(credit=64)
    bench.pump(QUIET_S)
    assert len(bench.trains) == 2
    bench.pump(STALL_S + 10 * PROBE_S)
    probes = len(bench.trains) - 2
    assert 8 <= probes <= 11
    assert len(rows(bench.trains)) == 2 + probes
    beats = len(bench.beats)
    bench.pump(TIMEOUT_S)
    assert bench.pump(60.0) == []
    assert len(bench.beats) - beats < TIMEOUT_S / WAITING_BEAT_S + TIMEOUT_S / PROBE_S + 2, "and one behind each train"


def test_one_that_is_heard_again_gets_the_whole_pace() -> None:
    bench = Bench(slabs=4)
    bench.join(credit=64)
    bench.pump(QUIET_S + STALL_S + 3 * PROBE_S)
    probed = len(bench.trains)
    for _ in range(ROWS):
        bench.report()
        bench.pump(0.001)
    assert len(bench.trains) - probed >= ROWS


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


# ---- several rows at once


def test_without_a_ceiling_rows_leave_eight_at_a_time_numbered_as_one_by_one() -> None:
    bench = Bench(slabs=2, rows_of_last=5)
    bench.join(credit=1 << 20)
    trains = bench.pump(QUIET_S + 0.1)
    assert [train.rows for train in trains] == [8] * 16 + [5]
    sent = [header for train in trains for header in headers(train)]
    assert [(h.slab, h.row, h.column) for h in sent] == [
        (slab, row, column) for slab, rows in ((0, ROWS), (1, 5)) for row in range(rows) for column in range(COLUMNS)
    ]
    assert [h.tx_seq for h in sent] == list(range(len(sent)))
    assert {(h.slab, h.row) for h in sent if h.flags & Flag.END_OF_SLAB} == {(0, ROWS - 1), (1, 4)}


@pytest.mark.parametrize(
    ("rate_bit_s", "credit", "rows"),
    [
        pytest.param(1e9, 1 << 20, 1, id="1 Gbit/s"),
        pytest.param(2e9, 1 << 20, 2, id="2 Gbit/s"),
        pytest.param(1e10, 1 << 20, 8, id="10 Gbit/s"),
        pytest.param(0.0, 1024, 4, id="an eighth of a window"),
        pytest.param(0.0, 128, 1, id="a small window"),
    ],
)
def test_a_train_is_no_longer_than_half_a_millisecond_nor_an_eighth_of_a_window(
    rate_bit_s: float, credit: int, rows: int
) -> None:
    bench = Bench(slabs=2, rate_bit_s=rate_bit_s)
    bench.join(credit=credit)
    bench.pump(QUIET_S)
    assert max(train.rows for train in bench.pump(0.1) + bench.trains) == rows
    assert sum(train.count for train in bench.trains) <= credit


def test_beside_repairs_one_row_leaves_at_a_time() -> None:
    bench = Bench(slabs=9)
    bench.join(credit=ROWS * COLUMNS + 8 * COLUMNS)
    bench.pump(QUIET_S)
    bench.nack(0, b"\x08" * COLUMNS)
    bench.report(held=(0,))
    trains = bench.pump(0.01)
    last = max(i for i, train in enumerate(trains) if train.is_repair)
    assert {train.rows for train in trains[:last] if not train.is_repair} == {1}
    assert sum(train.is_repair for train in trains) == 8
    assert max(train.rows for train in trains) == 8
