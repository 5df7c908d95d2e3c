# SPDX-License-Identifier: Apache-2.0
"""The sender's repairs, asked for and promised, and feedback that is none."""

from __future__ import annotations

import pytest
from tests.protocol.multicast.sender_bench import (
    EPOCH,
    FROM,
    ONE_EACH,
    QUIET_S,
    SESSION,
    Bench,
    headers,
)

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.member import FREE_SHARE, FREE_SLABS, SLAB_SYMBOLS
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    Beat,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
)
from dpd.protocol.multicast.sender import (
    ParityNeeded,
    SlabSettled,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


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


@pytest.mark.parametrize("ahead", [1, 5000, 1 << 30])
def test_who_has_seen_numbers_from_the_future_has_seen_the_latest_and_no_more(ahead: int) -> None:
    """A forged symbol misled its receiver, beside which it has seen the true ones: its credit must not stand still."""
    bench = Bench(slabs=9)
    bench.join(credit=4 * COLUMNS)
    sent = len(bench.pump(QUIET_S))
    assert bench.pump(0.1) == []
    bench.report(seen=bench.seq - 1 + ahead)
    assert len(bench.pump(0.1)) == sent


# ---- members that lie


def test_one_that_asks_for_everything_all_the_time_gets_a_share_of_the_stream_and_no_more() -> None:
    """It holds a member's credential and verifies nothing: what is sent in vain for it is a quarter of sixteen slabs."""
    bench = Bench(slabs=40, rate_bit_s=1e9)
    bench.join(1)
    bench.join(2, free_slabs=1000)
    bench.pump(QUIET_S + 0.01)
    while not bench.sender.members[1].is_complete and bench.now < 20.0:
        slab = max(train.slab for train in bench.trains if not train.is_repair)
        for lie in range(max(0, slab - 3), slab):
            bench.nack(lie, b"\xff" * COLUMNS, member=2)
        bench.report(2)
        bench.pump(0.05)
        bench.report(1, verified=(1 << slab) - 1 if slab < 39 else (1 << 40) - 1)
    assert bench.sender.members[1].is_complete
    assert bench.sender.counters.repair_symbols <= SLAB_SYMBOLS * FREE_SHARE * FREE_SLABS + 3 * SLAB_SYMBOLS
    assert bench.reasons().count("greedy_member") > 10


def test_one_that_loses_a_third_is_not_greedy() -> None:
    bench = Bench(slabs=40)
    bench.join(1)
    bench.join(2)
    bench.pump(QUIET_S)
    for slab in range(39):
        bench.nack(slab, bytes([ROWS // 3]) * COLUMNS)
        bench.pump(0.01)
        if slab >= 8:
            bench.report(1, verified=(1 << slab - 7) - 1, held=range(slab - 7, 39))
    assert "greedy_member" not in bench.reasons()


def test_the_greedy_are_served_when_nobody_else_lacks_anything() -> None:
    bench = Bench(slabs=3)
    bench.join(1)
    bench.join(2, verified=0b110)
    bench.pump(1.0)
    bench.sender.members[1].blame = 1 << 20
    bench.nack(1)
    assert bench.pump(0.1) == []
    bench.report(2, verified=0b111)
    bench.nack(1)
    assert [train.count for train in bench.pump(0.1)] == [COLUMNS]


def test_a_nack_that_comes_again_and_again_brings_its_repair_once(bench: Bench) -> None:
    bench.join()
    bench.pump(1.0)
    seen = bench.seq
    for _ in range(300):
        bench.nack(1, b"\x05" * COLUMNS, seen=seen)
        bench.pump(0.001)
    assert bench.sender.counters.repair_symbols == 5 * COLUMNS


# ---- the end of the numbers


def test_where_symbols_are_sealed_the_session_ends_before_a_number_comes_twice() -> None:
    bench = Bench(slabs=3, is_sealed=True)
    bench.sender._trains.seq = 2**32 - 10 * COLUMNS
    bench.join()
    bench.pump(5.0)
    sent = [header for train in bench.trains for header in headers(train)]
    assert all(h.flags & Flag.SEALED and h.speed_class == 2 for h in sent)
    assert len({h.tx_seq for h in sent}) == len(sent) == 10 * COLUMNS
    assert min(h.tx_seq for h in sent) == 2**32 - 10 * COLUMNS
    assert [control.code for control in bench.controls] == [ControlCode.END] * 3
    assert bench.sender.has_ended


def test_repairs_follow_their_announcement_and_not_the_next_beat() -> None:
    """At the end of a pass nothing else is to be sent, and the NCF has taken what was in the bucket."""
    bench = Bench(slabs=1, rows_of_last=40, rate_bit_s=1e9)
    for member in (1, 2):
        bench.join(member)
    bench.pump(QUIET_S + 0.1)
    for member in (1, 2):
        bench.report(member=member, held=(0,))
    bench.pump(0.005)
    bench.nack(0)
    trains = bench.pump(0.002)
    assert bench.ncfs
    assert sum(train.count for train in trains) == COLUMNS
