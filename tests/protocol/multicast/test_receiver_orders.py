# SPDX-License-Identifier: Apache-2.0
"""A receiver and what does not come as symbols of its group: orders to leave, slabs by unicast, a worker's findings."""

from __future__ import annotations

import hashlib

import pytest
from tests.protocol.multicast.receiver_bench import EPOCH, MEMBER, SESSION, Bench

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.leaves import leaves_of
from dpd.protocol.multicast.message import Beat, Control, ControlCode, ControlReason, Flag, Header, MessageType
from dpd.protocol.multicast.receiver import SILENCE_S, SessionFact
from dpd.protocol.multicast.slabs import MAX_DAMAGES

LOW = MEMBER & 0xFFFFFFFF


def sign(body: bytes) -> bytes:
    """Stands for a signature."""
    return hashlib.sha512(b"secret" + body).digest()


def order(code: int, *members: int) -> Control:
    return Control(Header(MessageType.CONTROL, SESSION, EPOCH, row=code), ControlReason.SLOW, members)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def wary() -> Bench:
    """A receiver that asks for signatures."""
    return Bench(verify=lambda body, signature: sign(body) == signature)


# ---- orders


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        (ControlCode.MOVE, SessionFact.MOVED),
        (ControlCode.FALL_BACK, SessionFact.FALL_BACK),
        (ControlCode.KICK, SessionFact.KICKED),
    ],
)
def test_an_order_is_for_those_it_names(bench: Bench, code: ControlCode, fact: SessionFact) -> None:
    bench.train(order(code, LOW + 1, LOW - 1).encode())
    assert bench.facts == []
    bench.train(order(code, LOW + 1, LOW).encode())
    assert bench.facts == [fact]


def test_the_end_is_for_everybody(bench: Bench) -> None:
    bench.train(order(ControlCode.END).encode())
    assert bench.facts == [SessionFact.ENDED]


def test_an_order_of_a_later_version_changes_nothing(bench: Bench) -> None:
    bench.train(order(77, LOW).encode())
    assert bench.reasons() == ["unknown_order"]


def test_only_what_the_sender_signed_is_obeyed(wary: Bench) -> None:
    wary.train(order(ControlCode.KICK, LOW).encode())
    wary.train(order(ControlCode.END).encode())
    wary.beat(0)
    assert wary.reasons() == ["forged"] * 3
    assert not wary.machine.has_heard
    wary.train(order(ControlCode.KICK, LOW).encode(sign))
    assert wary.facts[-1] is SessionFact.KICKED
    assert wary.machine.has_heard


def test_a_beat_said_again_later_does_not_turn_a_receiver_back(wary: Bench) -> None:
    def beat(tx_time: int, names: tuple[int, ...]) -> bytes:
        return Beat(wary.header(0, 0, type=MessageType.BEAT, tx_time=tx_time), 0, 1, 1, names).encode(sign)

    wary.train(beat(1_000_000, (LOW,)))
    wary.train(beat(2_000_000, ()))
    assert not wary.machine.is_representative
    wary.train(beat(1_000_000, (LOW,)))
    assert wary.reasons() == ["replayed"]
    assert not wary.machine.is_representative


def test_symbols_that_another_member_may_forge_are_no_sign_of_the_sender(bench: Bench) -> None:
    began = bench.now
    while SessionFact.SILENT not in bench.facts:
        bench.row(0, 0)
        bench.wait(0.1)
        assert bench.now - began < 2 * SILENCE_S
    assert not bench.machine.has_heard
    bench.beat(0)
    assert bench.machine.has_heard
    assert bench.machine.heard_at == bench.now


def test_after_silence_a_receiver_goes_on_where_the_sender_does(bench: Bench) -> None:
    bench.wait(SILENCE_S + 0.1)
    assert bench.facts == [SessionFact.SILENT]
    bench.beat(0)
    bench.slab(0)
    bench.store()
    assert bench.machine.verified == 0b1


# ---- slabs by unicast


def test_what_may_be_fetched_by_unicast_is_what_nobody_works_at_here() -> None:
    bench = Bench(slabs=5, verified=0b00001)
    bench.slab(1)
    bench.slab(2, lost=[3])
    assert bench.machine.unicast_candidates() == 0b11000
    bench.store()
    assert bench.machine.unicast_candidates() == 0b11000
    assert bench.machine.verified == 0b00011


def test_a_slab_that_came_by_unicast_needs_no_repair_and_frees_its_buffer() -> None:
    bench = Bench(slabs=3, slots=1)
    bench.slab(0, lost=[3])
    bench.machine.provide_unicast(0, bench.now)
    bench.slab(1)
    bench.wait(2.0)
    assert bench.nacks == []
    assert [ready.assembly.slab for ready in bench.ready] == [1], "its buffer is free again"
    assert bench.machine.buffers == 1
    assert bench.reports[-1].tally.unicast_slabs == 1
    assert bench.reports[-1].verified == 0b001


@pytest.mark.parametrize("ok", [True, False])
def test_a_slab_that_came_both_ways_counts_once(ok: bool) -> None:
    bench = Bench(slabs=1)
    bench.slab(0)
    bench.machine.provide_unicast(0, bench.now)
    bench.machine.provide_unicast(0, bench.now)
    bench.store(ok)
    assert bench.facts == [SessionFact.FINISHED]
    assert bench.machine.counters.unicast_slabs == 1
    assert bench.machine.is_finished


# ---- damaged slabs


def damage(bench: Bench, *symbols: tuple[int, int]) -> None:
    """What a worker does with a slab whose hash is wrong, where these symbols (row, column) were forged."""
    for ready in bench.ready:
        rows = bench.geometry.rows(ready.assembly.slab)
        true_leaves = leaves_of(memoryview(bytes([ready.assembly.slab]) * (rows * COLUMNS * 1408)))
        for row, column in symbols:
            ready.assembly.buffer[(row * COLUMNS + column) * 1408] ^= 1 << ready.assembly.damages
        assert ready.assembly.keep_confirmed(true_leaves) == len(symbols)
        bench.machine.provide_damaged(ready.assembly, bench.now)
    bench.ready.clear()
    bench.drive()


def test_forged_symbols_are_asked_for_and_the_rest_is_kept(bench: Bench) -> None:
    bench.slab(0)
    damage(bench, (5, 3), (6, 3), (70, 31))
    assert bench.machine.unicast_candidates() == 0b110, "it is in assembly again"
    bench.wait(0.01)
    assert bench.wanted() == {0: 3}
    assert bench.nacks[-1].slabs[0].deficits == bytes((c == 3) * 2 + (c == 31) for c in range(COLUMNS))
    bench.repair(0, ROWS, 3, is_end=False)
    bench.repair(0, ROWS + 1, 3, is_end=False)
    bench.repair(0, ROWS, 31)
    assert [ready.assembly.slab for ready in bench.ready] == [0]
    assert bench.machine.counters.bad_slabs == 1
    bench.store()
    assert bench.machine.verified == 0b1
    assert bench.machine.buffers == 1


def test_a_slab_damaged_again_and_again_is_left_to_other_means(bench: Bench) -> None:
    bench.slab(0)
    for turn in range(MAX_DAMAGES):
        assert len(bench.ready) == 1
        damage(bench, (5, 3))
        bench.repair(0, ROWS + turn, 3)
    assert bench.ready == []
    assert bench.machine.counters.bad_slabs == MAX_DAMAGES
    assert bench.machine.unicast_candidates() == 0b111
    bench.slab(0)
    bench.store()
    assert bench.machine.verified == 0b1, "and may still come from the carousel"


def test_a_slab_that_its_leaves_mended_is_looked_at_once_more(bench: Bench) -> None:
    bench.slab(0)
    damage(bench)
    assert len(bench.ready) == 1
    bench.store()
    assert bench.machine.verified == 0b1


def test_a_damaged_slab_that_came_by_unicast_meanwhile_frees_its_buffer(bench: Bench) -> None:
    bench.slab(0)
    bench.machine.provide_unicast(0, bench.now)
    damage(bench, (1, 1))
    bench.beat(0, flags=Flag.END_OF_PASS)
    bench.wait(1.0)
    assert bench.nacks == []
    assert bench.reports[-1].free_slabs == 4
