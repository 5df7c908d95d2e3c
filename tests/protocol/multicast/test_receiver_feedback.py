# SPDX-License-Identifier: Apache-2.0
"""What a receiver says and when, what ends its work, and what cannot mislead it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol.multicast.receiver_bench import EPOCH, EVERY_COLUMN, FROM, SESSION, Bench

from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SYMBOL_BYTES
from dpd.protocol.multicast.message import (
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Report,
    Tally,
)
from dpd.protocol.multicast.receiver import SILENCE_S, SessionFact
from dpd.protocol.multicast.reporting import FAST_REPORT_S, REPORT_S
from dpd.protocol.multicast.sequence import MAX_LATE
from dpd.protocol.multicast.train_headers import encode_row_headers


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
    bench.slab(0, lost=[1], rows=range(20))
    bench.train(bench.header(0, 20, nack_ms=65535).encode() + bytes(SYMBOL_BYTES))
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
    for row in range(50):
        bench.row(0, row)
        bench.wait(0.0004)
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


def test_a_message_that_waited_in_the_socket_is_taken_at_the_time_of_its_arrival(bench: Bench) -> None:
    """Its owner tells when it arrived, which may be before the symbols that were read last."""
    bench.slab(0, lost=[3])
    bench.wait(0.001)
    latest, bench.now = bench.now, bench.now - 0.005
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.now = latest
    bench.wait(0.05)
    assert bench.wanted() == {0: 1}
    assert bench.reports[-1].echo_delay_us < 1_000_000
    assert bench.machine.next_timeout() > bench.now
