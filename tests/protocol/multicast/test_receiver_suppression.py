# SPDX-License-Identifier: Apache-2.0
"""What spares a receiver a question: promised parity and announcements; and what those cannot do when they are forged."""

from __future__ import annotations

import pytest
from tests.protocol.multicast.receiver_bench import EVERY_COLUMN, Bench

from dpd.protocol.multicast.gaps import FIRST_RETRY_S
from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SYMBOL_BYTES
from dpd.protocol.multicast.message import Flag, MessageType, Ncf, SlabDeficits

PATIENCE_S = FIRST_RETRY_S  # while answers are quick
SOON_S = 0.005  # grace and back-off of a small group


class Promises(Bench):
    """A sender that promises parity with each slab."""

    def __init__(self, promised_rows: int) -> None:
        super().__init__()
        self.promised_rows = promised_rows
        self.beat(0)
        plain = self.header
        self.header = lambda *a, **k: plain(*a, **({"promised_rows": promised_rows} | k))  # type: ignore[method-assign]

    def source(self, slab: int, *, lost: dict[int, int]) -> None:
        """All source rows, none of them marked as the end; `lost`: column -> how many of its symbols are missing."""
        for row in range(ROWS):
            gone = [column for column, count in lost.items() if row < count]
            for column in EVERY_COLUMN:
                if column not in gone:
                    self.train(self.header(slab, row, column=column).encode() + bytes(SYMBOL_BYTES))
                self.seq += 1

    def parity(self, slab: int, row: int, *, flags: int = 0, only: range = EVERY_COLUMN) -> None:
        """A promised row."""
        for column in only:
            header = self.header(slab, ROWS + row, flags=flags, column=column)
            self.train(header.encode() + bytes(SYMBOL_BYTES))
            self.seq += 1


def announce(bench: Bench, slab: int, deficits: dict[int, int]) -> None:
    """An NCF."""
    entry = SlabDeficits(slab, bytes(deficits.get(column, 0) for column in EVERY_COLUMN))
    bench.train(Ncf(bench.header(0, 0, type=MessageType.NCF, tx_seq=bench.seq - 1), (entry,)).encode())


# ---- promised parity


def test_promised_parity_mends_without_a_question() -> None:
    bench = Promises(2)
    bench.source(0, lost={3: 2, 9: 1})
    bench.parity(0, 0)
    bench.parity(0, 1, flags=Flag.END_OF_SLAB)
    assert len(bench.ready) == 1
    bench.wait(1.0)
    assert bench.nacks == []


def test_what_promised_parity_does_not_cover_is_asked_for_at_its_end_and_not_before() -> None:
    bench = Promises(2)
    bench.source(0, lost={3: 4})
    bench.wait(0.05)
    assert bench.nacks == []
    bench.parity(0, 0)
    bench.parity(0, 1, flags=Flag.END_OF_SLAB)
    bench.wait(SOON_S)
    assert bench.wanted() == {0: 2}


def test_promised_parity_that_is_late_is_waited_for_while_the_next_slab_comes() -> None:
    bench = Promises(2)
    bench.source(0, lost={3: 2})
    bench.row(1, 0)
    bench.wait(PATIENCE_S - 0.002)
    assert bench.nacks == []
    bench.parity(0, 0, flags=Flag.REPAIR, only=range(3, 4))
    bench.parity(0, 1, flags=Flag.REPAIR | Flag.END_OF_SLAB, only=range(3, 4))
    assert len(bench.ready) == 1
    bench.wait(1.0)
    assert bench.nacks == []
    assert bench.machine.counters.suppressed == 1


def test_more_than_was_promised_is_asked_for_as_soon_as_the_stream_has_left() -> None:
    bench = Promises(2)
    bench.source(0, lost={3: 3})
    bench.row(1, 0)
    bench.wait(SOON_S)
    assert bench.wanted() == {0: 3}


@pytest.mark.parametrize("promised_rows", [1, 127, 65535])
def test_a_promise_that_is_not_kept_is_waited_for_once(promised_rows: int) -> None:
    bench = Promises(promised_rows)
    bench.source(0, lost={3: 1})
    bench.row(1, 0)
    bench.wait(PATIENCE_S + SOON_S)
    assert bench.wanted() == {0: 1}


# ---- announcements


def test_an_announcement_that_covers_all_spares_the_question() -> None:
    bench = Bench()
    bench.slab(0, lost=[3, 4])
    announce(bench, 0, {3: 1, 4: 2, 5: 1})
    bench.wait(PATIENCE_S - 0.001)
    assert bench.nacks == []
    bench.repair(0, ROWS, 3, is_end=False)
    bench.repair(0, ROWS, 4)
    assert len(bench.ready) == 1
    bench.wait(1.0)
    assert bench.nacks == []
    bench.beat(0)
    bench.wait(1.0)
    assert bench.reports[-1].tally.suppressed == 1


@pytest.mark.parametrize("announced", [{3: 1}, {4: 9}, {}])
def test_one_that_covers_less_spares_nothing(announced: dict[int, int]) -> None:
    bench = Bench()
    bench.slab(0, lost=[3, 4])
    announce(bench, 0, announced)
    bench.wait(SOON_S)
    assert bench.wanted() == {0: 2}
    assert bench.machine.counters.suppressed == 0


def test_announcements_for_others_are_nothing_to_us() -> None:
    bench = Bench()
    bench.slab(0, lost=[3])
    announce(bench, 2, {3: 1})
    announce(bench, 4_000_000_000, {3: 1})
    bench.wait(SOON_S)
    assert bench.wanted() == {0: 1}


def test_announced_repairs_that_do_not_come_are_asked_for_after_one_round() -> None:
    """A member that forges announces everything, all the time."""
    bench = Bench()
    bench.slab(0, lost=[3])
    begin = bench.now
    while not bench.nacks and bench.now < begin + 1.0:
        announce(bench, 0, dict.fromkeys(EVERY_COLUMN, 255))
        bench.wait(0.001)
    assert bench.now - begin <= PATIENCE_S + SOON_S


# ---- forged ends


def test_an_end_that_is_none_makes_nobody_ask_for_what_is_still_to_come() -> None:
    """100 Mbit/s: a row each 3.8 ms. The forged symbol says that the slab has ended."""
    bench = Bench()
    for row in range(ROWS):
        bench.row(0, row)
        if row == 60:
            forged = bench.header(0, 10, flags=Flag.END_OF_SLAB, tx_seq=bench.seq - 1)
            bench.train(forged.encode() + bytes(SYMBOL_BYTES))
        for _ in range(4):
            bench.wait(0.00095)
            if row < ROWS - 1:  # at this rate a row comes as several trains
                break
    assert bench.nacks == []
    assert len(bench.ready) == 1


def test_ends_that_are_forged_without_pause_do_not_make_a_receiver_ask_without_pause() -> None:
    bench = Bench()
    bench.slab(0, lost=[3])
    for _ in range(500):
        forged = bench.header(0, ROWS, column=9, flags=Flag.REPAIR | Flag.END_OF_SLAB, tx_seq=bench.seq - 1)
        bench.train(forged.encode() + bytes(SYMBOL_BYTES))
        bench.wait(0.001)
    assert 5 <= len(bench.nacks) <= 0.5 / FIRST_RETRY_S + 2


def test_slabs_that_a_forger_names_take_no_buffer_from_those_that_are_sent() -> None:
    bench = Bench(slabs=40, slots=4)
    for slab in range(3):
        for row in range(ROWS):
            bench.row(slab, row)
            if row % 8 == 0:
                forged = bench.header(20 + (row // 8 + slab) % 20, 2, tx_seq=bench.seq)
                bench.train(forged.encode() + bytes(SYMBOL_BYTES))
            bench.wait(0.0004)
    bench.beat(3)
    bench.wait(0.1)
    mended = {ready.assembly.slab for ready in bench.ready} | set(bench.wanted())
    assert mended == {0, 1, 2}
    assert sum(bench.wanted().values()) <= 3 * COLUMNS
    assert bench.machine.buffers <= 4
