# SPDX-License-Identifier: Apache-2.0
"""Repair at the sender: deficits of many receivers become the fewest symbols that mend them all.

Per slab the deficits are merged as the maximum per column, since one parity symbol mends a different loss at each
receiver. A NACK tells the last symbol its receiver had seen, so repairs still under way are taken off before merging and
nothing is sent twice for one loss. Each column sends parity rows it never sent before; only when all 127 are spent its
source symbols come again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
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
    """What is asked and was sent for one slab of `rows` source rows. `sent` counts a column's turns: its next parity row.

    A promise takes its turns at once; what of it has not left is `owed` per column, and a NACK asks for nothing of it.
    """

    rows: int
    pending: list[int] = field(default_factory=lambda: [0] * COLUMNS)
    sent: list[int] = field(default_factory=lambda: [0] * COLUMNS)
    bursts: deque[Burst] = field(default_factory=lambda: deque(maxlen=BURSTS_REMEMBERED))
    first_promised: int = 0
    owed: list[int] = field(default_factory=lambda: [0] * COLUMNS)
    asked: list[int] = field(default_factory=lambda: [0] * COLUMNS)  # beyond the promise, since it was made

    def merge(self, deficits: bytes, seen: int) -> int:
        """Take in one receiver's deficits per column, known when it had seen `seen`. Returns how many symbols more are
        sent because of it."""
        under_way = self.owed.copy()
        for burst in reversed(self.bursts):
            if burst.last_seq <= seen:
                break
            under_way = [a + b for a, b in zip(under_way, burst.counts, strict=True)]
        added = 0
        for column, deficit in enumerate(deficits):
            # Nobody can lack more than all rows, whatever a NACK says.
            more = min(deficit, self.rows) - under_way[column] - self.pending[column]
            if more > 0:
                self.pending[column] += more
                self.asked[column] += more
                added += more
        return added

    def promise(self, count: int) -> int:
        """So many whole rows will come unasked, of those never sent. Returns how many: 0 where parity is exhausted."""
        first = max(self.sent)
        count = count if first + count <= PARITY_ROWS else 0
        self.first_promised = first
        self.sent = [max(s, first + count if count else s) for s in self.sent]
        self.owed = [count] * COLUMNS
        self.asked = [0] * COLUMNS
        return count

    def give_up_promise(self) -> None:
        """It was late: the rows that are owed are sent like those that were asked for."""
        for column, owed in enumerate(self.owed):
            self.pending[column] += owed
            self.sent[column] -= owed
            self.owed[column] = 0

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

    def note_promised(self, column: int, count: int, last_seq: int) -> None:
        """Promised symbols of neighbouring columns have left."""
        for c in range(column, column + count):
            self.owed[c] -= 1
        self.bursts.append(Burst(last_seq, [int(column <= c < column + count) for c in range(COLUMNS)]))

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
        self._raised: dict[int, None] = {}  # slabs whose pending has grown since `take_raised`, in that order
        self._parity_ready: dict[int, int] = {}
        self._parity_asked: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._repairs)

    def __contains__(self, slab: int) -> bool:
        return slab in self._repairs

    def merge(self, slab: int, rows: int, deficits: bytes, seen: int) -> int:
        """Take in one receiver's deficits for a slab of `rows` source rows, known when it had seen `seen`. Returns how
        many symbols more are sent because of it."""
        repair = self._repair(slab, rows)
        added = repair.merge(deficits, seen)
        if added:
            self._raised[slab] = None
        if repair.is_pending:
            self._pending[slab] = repair
        return added

    def promise(self, slab: int, rows: int, count: int) -> tuple[int, int]:
        """A slab begins, and parity rows are to follow it unasked; they are asked for now. Returns how many will, and
        the first."""
        if not count and slab not in self._repairs:
            return 0, 0
        repair = self._repair(slab, rows)
        count = repair.promise(count)
        if count:
            self._ask_up_to(slab, repair.first_promised + count)
        return count, repair.first_promised

    def keep_promise(self, slab: int) -> bool:
        """Whether what was promised can be sent now; if not it goes the way of other repairs."""
        repair = self._repairs[slab]
        if repair.first_promised + max(repair.owed) <= self._parity_ready.get(slab, 0):
            return True
        repair.give_up_promise()
        self._pending[slab] = repair
        return False

    def note_promised(self, slab: int, column: int, count: int, last_seq: int) -> None:
        """Promised symbols of neighbouring columns have left."""
        self._repairs[slab].note_promised(column, count, last_seq)

    @property
    def has_pending(self) -> bool:
        """Whether there is something to send, now or once its parity is there."""
        return bool(self._pending)

    @property
    def has_raised(self) -> bool:
        """Whether `take_raised` has something."""
        return bool(self._raised)

    def demand(self, slab: int) -> Sequence[int]:
        """Symbols per column that were asked for beyond the slab's promise."""
        repair = self._repairs.get(slab)
        return repair.asked if repair else _NOTHING

    def take_raised(self, limit: int) -> list[tuple[int, bytes]]:
        """Slabs, at most `limit`, whose pending has grown since the last look, and what is pending per column."""
        taken: list[tuple[int, bytes]] = []
        while self._raised and len(taken) < limit:
            slab = next(iter(self._raised))
            del self._raised[slab]
            if slab in self._pending:
                taken.append((slab, bytes(min(p, 255) for p in self._pending[slab].pending)))
        return taken

    def take(self, limit: int) -> tuple[int, SlabRepair, list[tuple[int, int]]] | None:
        """A slab and the next symbols of it to send, at most `limit`; None: nothing is pending, or its parity not there."""
        for slab, repair in self._pending.items():
            needed = repair.parity_rows_needed()
            if needed <= self._parity_ready.get(slab, 0):
                symbols = repair.take(limit)
                if not repair.is_pending:
                    del self._pending[slab]
                return slab, repair, symbols
            self._ask_up_to(slab, needed)
        return None

    def _repair(self, slab: int, rows: int) -> SlabRepair:
        if slab not in self._repairs:
            self._repairs[slab] = SlabRepair(rows)
        return self._repairs[slab]

    def _ask_up_to(self, slab: int, needed: int) -> None:
        ready = self._parity_ready.get(slab, 0)
        if needed > ready and self._parity_asked.get(slab, 0) == ready:
            self._parity_asked[slab] = needed
            self._ask_parity(slab, ready, needed - ready)

    def provide_parity(self, slab: int, rows: int) -> None:
        """Parity rows 0 .. rows - 1 of a slab are there now."""
        self._parity_ready[slab] = rows

    def settle(self, is_needed: Callable[[int], bool]) -> list[int]:
        """Drop every slab that is not needed, but none whose parity is being computed. Returns those."""
        settled = [
            slab
            for slab in self._repairs
            if self._parity_asked.get(slab, 0) == self._parity_ready.get(slab, 0) and not is_needed(slab)
        ]
        for slab in settled:
            for kept in (self._repairs, self._pending, self._raised, self._parity_ready, self._parity_asked):
                kept.pop(slab, None)
        return settled


_NOTHING = (0,) * COLUMNS
