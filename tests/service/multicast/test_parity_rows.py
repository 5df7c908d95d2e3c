# SPDX-License-Identifier: Apache-2.0
"""Parity rows stay available, and their memory does not grow, however much repair is asked for."""

from __future__ import annotations

import random
import threading
import tracemalloc

import pytest

from dpd.service.multicast.parity_rows import AGAIN_ROWS, ParityRows

ROW = 1000


class Computer:
    """Rows that show which they are; counts what it was asked for."""

    def __init__(self, last: int = 127) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self.last = last

    def __call__(self, slab: int, first: int, count: int) -> list[bytes]:
        self.asked.append((slab, first, count))
        return [f"{slab}/{row}".encode().ljust(ROW) for row in range(first, min(first + count, self.last))]


def shown(rows: ParityRows, slab: int, row: int) -> str:
    return bytes(rows.row(slab, row)).decode().strip()


def test_rows_are_computed_once_as_long_as_there_is_room() -> None:
    computer = Computer()
    rows = ParityRows(computer, 10 * ROW)
    rows.add(3, 0, 4)
    rows.add(3, 4, 4)
    rows.add(4, 0, 2)
    assert [shown(rows, 3, row) for row in range(8)] == [f"3/{row}" for row in range(8)]
    assert shown(rows, 4, 1) == "4/1"
    assert computer.asked == [(3, 0, 4), (3, 4, 4), (4, 0, 2)]


def test_what_gave_way_comes_back() -> None:
    computer = Computer()
    rows = ParityRows(computer, 10 * ROW)
    for slab in range(5):
        rows.add(slab, 0, 5)
    assert shown(rows, 4, 2) == "4/2"
    assert rows.computed_again == 0
    assert shown(rows, 0, 2) == "0/2"
    assert computer.asked[-1] == (0, 2, AGAIN_ROWS)
    assert shown(rows, 0, 2 + AGAIN_ROWS - 1) == f"0/{1 + AGAIN_ROWS}"
    assert rows.computed_again == 1


def test_the_last_rows_come_back_too() -> None:
    rows = ParityRows(Computer(), 2 * ROW)
    rows.add(0, 120, 7)
    rows.add(1, 0, 2)
    assert shown(rows, 0, 126) == "0/126"


def test_one_slab_may_be_larger_than_the_budget() -> None:
    rows = ParityRows(Computer(), 3 * ROW)
    rows.add(0, 0, 127)
    assert [shown(rows, 0, row) for row in range(127)] == [f"0/{row}" for row in range(127)]
    assert rows.computed_again == 0


def test_a_forgotten_slab_makes_room() -> None:
    rows = ParityRows(Computer(), 10 * ROW)
    rows.add(0, 0, 5)
    rows.add(1, 0, 5)
    rows.forget(1)
    rows.forget(1)
    rows.forget(7)
    rows.add(2, 0, 5)
    assert shown(rows, 0, 4) == "0/4"
    assert rows.computed_again == 0


def test_adding_again_counts_once() -> None:
    rows = ParityRows(Computer(), 10 * ROW)
    rows.add(0, 0, 5)
    for _ in range(20):
        rows.add(1, 0, 5)
    assert shown(rows, 0, 0) == "0/0"
    assert rows.computed_again == 0


def test_memory_is_flat_where_every_slab_is_wanted_whole() -> None:
    rows = ParityRows(Computer(), 50 * ROW)
    tracemalloc.start()
    try:
        for slab in range(100):
            rows.add(slab, 0, 20)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 100 * ROW


def test_an_error_is_the_callers() -> None:
    def fail(slab: int, first: int, count: int) -> list[bytes]:
        raise OSError(5, "Input/output error")

    rows = ParityRows(fail)
    with pytest.raises(OSError, match="Input/output"):
        rows.add(0, 0, 1)
    with pytest.raises(OSError, match="Input/output"):
        rows.row(0, 0)


def test_workers_may_add_while_the_sender_reads() -> None:
    rows = ParityRows(Computer(), 30 * ROW)
    stop, wrong = threading.Event(), list[str]()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            rows.add(rng.randrange(10), rng.randrange(100), 5)
            rows.forget(rng.randrange(10))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for each in workers:
        each.start()
    rng = random.Random(9)
    for _ in range(3000):
        slab, row = rng.randrange(10), rng.randrange(100)
        if shown(rows, slab, row) != f"{slab}/{row}":
            wrong.append(f"{slab}/{row}")
    stop.set()
    for each in workers:
        each.join()
    assert wrong == []
    for slab in range(10):
        rows.forget(slab)
    assert rows._bytes == 0
