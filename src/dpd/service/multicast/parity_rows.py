# SPDX-License-Identifier: Apache-2.0
"""Parity rows in memory, within a budget: the rows of all slabs that somebody still lacks would be as large as the image."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dpd.protocol.machine import Buffer

BUDGET_BYTES = 64 << 20  # 1489 rows; a thousand receivers at 1 % loss need some 6 for each of 64 slabs on the way
AGAIN_ROWS = 8  # at a time, once they were dropped: the slab is read for one row or eight

Compute = Callable[[int, int, int], Sequence[Buffer]]  # slab, first parity row, count; raises OSError


class ParityRows:
    """What was added stays available: where it had to give way to later slabs it is computed again, which costs 2 ms and
    happens only when receivers ask for far more repair than they were sent data. Workers add, the sender's thread reads."""

    def __init__(self, compute: Compute, budget_bytes: int = BUDGET_BYTES) -> None:
        self.computed_again = 0
        self._compute = compute
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._slabs: dict[int, dict[int, Buffer]] = {}  # the slab that was added to last is the last one
        self._bytes = 0

    def add(self, slab: int, first: int, count: int) -> None:
        """Compute these rows and keep them. Raises OSError."""
        self._keep(slab, first, self._compute(slab, first, count))

    def row(self, slab: int, row: int) -> memoryview:
        """A row that was added once. Raises OSError where it must be computed again and cannot."""
        try:
            return memoryview(self._slabs[slab][row])
        except KeyError:
            rows = self._compute(slab, row, AGAIN_ROWS)
            self.computed_again += 1
            self._keep(slab, row, rows)
            return memoryview(rows[0])

    def forget(self, slab: int) -> None:
        """Nobody lacks the slab any more."""
        with self._lock:
            self._drop(slab)

    def _keep(self, slab: int, first: int, rows: Sequence[Buffer]) -> None:
        with self._lock:
            kept = self._slabs.pop(slab, {})
            self._slabs[slab] = kept
            for number, row in enumerate(rows, first):
                self._bytes += len(row) - len(kept.get(number, b""))
                kept[number] = row
            while self._bytes > self._budget_bytes and len(self._slabs) > 1:
                self._drop(next(iter(self._slabs)))

    def _drop(self, slab: int) -> None:
        self._bytes -= sum(map(len, self._slabs.pop(slab, {}).values()))
