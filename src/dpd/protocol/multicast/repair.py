# SPDX-License-Identifier: Apache-2.0
"""Repair at the sender: deficits of many receivers become the fewest symbols that mend them all.

Per slab the deficits are merged as the maximum per column, since one parity symbol mends a different loss at each
receiver. A NACK tells the last symbol its receiver had seen, so repairs still under way are taken off before merging and
nothing is sent twice for one loss. Each column sends parity rows it never sent before; only when all 127 are spent its
source symbols come again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS


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
    bursts: list[Burst] = field(default_factory=list)

    def merge(self, deficits: bytes, seen: int) -> bool:
        """Take in one receiver's deficits per column, known when it had seen `seen`. True if more is pending now."""
        self.bursts = [burst for burst in self.bursts if burst.last_seq > seen - MEMORY]
        under_way = [0] * COLUMNS
        for burst in self.bursts:
            if burst.last_seq > seen:
                under_way = [a + b for a, b in zip(under_way, burst.counts, strict=True)]
        merged = [max(p, d - u) for p, d, u in zip(self.pending, deficits, under_way, strict=True)]
        grew = merged != self.pending
        self.pending = merged
        return grew

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


MEMORY = 1 << 20  # symbols after which a burst is forgotten: far more than any receiver lags behind
