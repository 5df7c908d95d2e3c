# SPDX-License-Identifier: Apache-2.0
"""Many receivers' deficits become the fewest symbols, and none twice for one loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS
from dpd.protocol.multicast.repair import BURSTS_REMEMBERED, RepairQueue, SlabRepair

DEFICITS = st.binary(min_size=COLUMNS, max_size=COLUMNS)


def deficits(**columns: int) -> bytes:
    """deficits(c3=2): column 3 lacks two symbols."""
    return bytes(columns.get(f"c{column}", 0) for column in range(COLUMNS))


@given(st.lists(DEFICITS, max_size=6), st.randoms(use_true_random=False), st.integers(1, ROWS))
def test_merging_is_commutative_and_idempotent(nacks: list[bytes], rng: object, rows: int) -> None:
    shuffled = nacks + nacks
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = SlabRepair(rows), SlabRepair(rows)
    for nack in nacks:
        one.merge(nack, -1)
    for nack in shuffled:
        other.merge(nack, -1)
    assert one.pending == other.pending
    assert one.pending == [min(max([n[c] for n in nacks], default=0), rows) for c in range(COLUMNS)]


@given(DEFICITS, st.integers(1, ROWS))
def test_nobody_lacks_more_than_all_rows_whatever_a_nack_says(nack: bytes, rows: int) -> None:
    repair = SlabRepair(rows)
    repair.merge(nack, -1)
    assert sum(repair.pending) <= rows * COLUMNS


def test_one_symbol_mends_a_different_loss_at_each_receiver() -> None:
    repair = SlabRepair(ROWS)
    for _ in range(1000):
        repair.merge(deficits(c3=2, c9=1), -1)
    assert repair.take(COLUMNS) == [(ROWS, 3), (ROWS, 9), (ROWS + 1, 3)]
    assert not repair.is_pending


def test_a_nack_that_crosses_the_repair_asks_for_nothing_twice() -> None:
    repair = SlabRepair(ROWS)
    repair.merge(deficits(c1=2), seen=100)
    repair.note_sent(repair.take(COLUMNS), last_seq=110)
    repair.merge(deficits(c1=2), seen=105)
    assert not repair.is_pending
    repair.merge(deficits(c1=3), seen=105)
    assert repair.pending == list(deficits(c1=1))


def test_a_nack_from_behind_the_repair_says_that_the_repair_was_lost() -> None:
    repair = SlabRepair(ROWS)
    repair.merge(deficits(c1=2), seen=100)
    repair.note_sent(repair.take(COLUMNS), last_seq=110)
    repair.merge(deficits(c1=1), seen=110)
    assert repair.take(COLUMNS) == [(ROWS + 2, 1)]


def test_parity_is_spent_before_originals_come_again_and_nothing_is_asked_beyond_it() -> None:
    repair = SlabRepair(rows=3)
    sent = []
    for _ in range(PARITY_ROWS + 3):
        repair.merge(deficits(c0=1), seen=1 << 40)
        assert repair.parity_rows_needed() <= PARITY_ROWS
        sent += [row for row, _ in repair.take(COLUMNS)]
    assert sent == [*range(ROWS, ROWS + PARITY_ROWS), 0, 1, 2]
    repair.merge(deficits(c0=1), seen=1 << 40)
    assert repair.take(COLUMNS) == [(ROWS, 0)]


def test_columns_that_lack_alike_leave_as_whole_rows() -> None:
    repair = SlabRepair(ROWS)
    repair.merge(bytes([2]) * COLUMNS, -1)
    assert repair.take(COLUMNS) == [(ROWS, column) for column in range(COLUMNS)]
    assert repair.take(COLUMNS) == [(ROWS + 1, column) for column in range(COLUMNS)]


def test_what_is_remembered_of_a_slab_is_bounded() -> None:
    repair = SlabRepair(ROWS)
    for seq in range(2 * BURSTS_REMEMBERED):
        repair.merge(deficits(c0=1), seen=seq)
        repair.note_sent(repair.take(COLUMNS), last_seq=seq)
    assert len(repair.bursts) == BURSTS_REMEMBERED


class Asked(list[tuple[int, int, int]]):
    """Parity requests, in order."""

    def __call__(self, slab: int, first: int, count: int) -> None:
        self.append((slab, first, count))


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def queue(asked: Asked) -> RepairQueue:
    return RepairQueue(asked)


def test_parity_is_asked_for_once_and_the_next_rows_only_when_the_first_are_there(
    queue: RepairQueue, asked: Asked
) -> None:
    """Two requests at once could be answered in either order by two workers."""
    queue.merge(5, ROWS, deficits(c0=2), -1)
    assert queue.take(COLUMNS) is None
    queue.merge(5, ROWS, deficits(c0=6), -1)
    assert queue.take(COLUMNS) is None
    assert asked == [(5, 0, 2)]
    queue.provide_parity(5, 2)
    assert queue.take(COLUMNS) is None
    assert asked == [(5, 0, 2), (5, 2, 4)]
    queue.provide_parity(5, 6)
    taken = queue.take(COLUMNS)
    assert taken is not None
    assert taken[2] == [(ROWS + i, 0) for i in range(6)]


def test_a_slab_that_waits_for_parity_does_not_keep_another(queue: RepairQueue) -> None:
    queue.merge(5, ROWS, deficits(c0=1), -1)
    queue.merge(6, ROWS, deficits(c0=1), -1)
    assert queue.take(COLUMNS) is None
    queue.provide_parity(6, 1)
    taken = queue.take(COLUMNS)
    assert taken is not None
    assert taken[0] == 6


def test_a_settled_slab_is_forgotten_but_never_while_its_parity_is_computed(queue: RepairQueue, asked: Asked) -> None:
    queue.merge(5, ROWS, deficits(c0=1), -1)
    queue.take(COLUMNS)
    assert queue.settle(lambda _: False) == []
    queue.provide_parity(5, 1)
    assert queue.settle(lambda slab: slab == 5) == []
    assert queue.settle(lambda _: False) == [5]
    assert len(queue) == 0
    queue.merge(5, ROWS, deficits(c0=1), -1)
    queue.take(COLUMNS)
    assert asked == [(5, 0, 1), (5, 0, 1)]
