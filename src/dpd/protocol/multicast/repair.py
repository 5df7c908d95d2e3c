# SPDX-License-Identifier: Apache-2.0
"""Repair at the sender: deficits of many receivers become the fewest symbols that mend them all.

Per slab the deficits are merged as the maximum per column, since one parity symbol mends a different loss at each
receiver. A NACK tells the last symbol its receiver had seen, so repairs still under way are taken off before merging and
nothing is sent twice for one loss. Each column sends parity rows it never sent before; only when all 127 are spent its
source symbols come again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS

BURSTS_REMEMBERED = 256  # a NACK that crosses more than these is taken at its word


@dataclass(slots=True)
class Burst:
    """Repairs that left together: `counts` symbols per column, the last one with `last_seq`."""

    last_seq: int
    counts: list[int]


@dataclass(slots=True)
class SlabRepair:
    """What is asked and was sent for one slab of `rows` source rows."""

    rows: int
    pending: list[int] = field(default_factory=lambda: [0] * COLUMNS)
    sent: list[int] = field(default_factory=lambda: [0] * COLUMNS)
    bursts: deque[Burst] = field(default_factory=lambda: deque(maxlen=BURSTS_REMEMBERED))

    def merge(self, deficits: bytes, seen: int) -> None:
        """Take in one receiver's deficits per column, known when it had seen `seen`."""
        under_way = [0] * COLUMNS
        for burst in reversed(self.bursts):
            if burst.last_seq <= seen:
                break
            under_way = [a + b for a, b in zip(under_way, burst.counts, strict=True)]
        # Nobody can lack more than all rows, whatever a NACK says.
        wanted = (min(d, self.rows) - u for d, u in zip(deficits, under_way, strict=True))
        self.pending = [max(p, w) for p, w in zip(self.pending, wanted, strict=True)]

    @property
    def is_pending(self) -> bool:
        return any(self.pending)

    def parity_rows_needed(self) -> int:
        """How many parity rows must be computed to send what is pending."""
        return min(max(s + p for s, p in zip(self.sent, self.pending, strict=True)), PARITY_ROWS)

    def take(self, limit: int) -> list[tuple[int, int]]:
        """The next symbols to send as (row, column), at most `limit`, lowest turn first so that whole rows form."""
        taken: list[tuple[int, int]] = []
        while len(taken) < limit and (columns := [c for c in range(COLUMNS) if self.pending[c]]):
            turn = min(self.sent[c] for c in columns)
            for column in [c for c in columns if self.sent[c] == turn][: limit - len(taken)]:
                taken.append((self._row_of_turn(turn), column))
                self.sent[column] += 1
                self.pending[column] -= 1
        return taken

    def note_sent(self, symbols: list[tuple[int, int]], last_seq: int) -> None:
        """Remember what left, for NACKs that cross it."""
        counts = [0] * COLUMNS
        for _, column in symbols:
            counts[column] += 1
        self.bursts.append(Burst(last_seq, counts))

    def _row_of_turn(self, turn: int) -> int:
        """Parity rows in order, then the source rows, then all of it again."""
        turn %= PARITY_ROWS + self.rows
        return ROWS + turn if turn < PARITY_ROWS else turn - PARITY_ROWS


class RepairQueue:
    """The slabs under repair. `ask_parity(slab, first, count)` is called when parity rows must be computed: once at a
    time for each slab, so that its rows come in order however many workers there are."""

    def __init__(self, ask_parity: Callable[[int, int, int], None]) -> None:
        self._ask_parity = ask_parity
        self._repairs: dict[int, SlabRepair] = {}
        self._pending: dict[int, SlabRepair] = {}  # those of them with something to send, longest waiting first
        self._parity_ready: dict[int, int] = {}
        self._parity_asked: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._repairs)

    def merge(self, slab: int, rows: int, deficits: bytes, seen: int) -> None:
        """Take in one receiver's deficits for a slab of `rows` source rows, known when it had seen `seen`."""
        repair = self._repairs.get(slab)
        if repair is None:
            repair = self._repairs[slab] = SlabRepair(rows)
        repair.merge(deficits, seen)
        if repair.is_pending:
            self._pending[slab] = repair

    def take(self, limit: int) -> tuple[int, SlabRepair, list[tuple[int, int]]] | None:
        """A slab and the next symbols of it to send, at most `limit`; None: nothing is pending, or its parity not there."""
        for slab, repair in self._pending.items():
            needed, ready = repair.parity_rows_needed(), self._parity_ready.get(slab, 0)
            if needed <= ready:
                symbols = repair.take(limit)
                if not repair.is_pending:
                    del self._pending[slab]
                return slab, repair, symbols
            if self._parity_asked.get(slab, 0) == ready:
                self._parity_asked[slab] = needed
                self._ask_parity(slab, ready, needed - ready)
        return None

    def provide_parity(self, slab: int, rows: int) -> None:
        """Parity rows 0 .. rows - 1 of a slab are there now."""
        self._parity_ready[slab] = rows

    def settle(self, in_repair: int) -> list[int]:
        """Drop every slab outside the slab set `in_repair`, but none whose parity is being computed. Returns those."""
        settled = [
            slab
            for slab in self._repairs
            if not in_repair >> slab & 1 and self._parity_asked.get(slab, 0) == self._parity_ready.get(slab, 0)
        ]
        for slab in settled:
            for kept in (self._repairs, self._pending, self._parity_ready, self._parity_asked):
                kept.pop(slab, None)
        return settled
