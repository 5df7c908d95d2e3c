# SPDX-License-Identifier: Apache-2.0
"""A slab taking shape at a receiver: symbols go to their place until each column has k of them."""

from __future__ import annotations

from collections.abc import Iterator

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.fec import Codec, recover_columns
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.leaves import LEAF_BYTES, leaves_of


class SlabAssembly:
    """One slab of `rows` source rows in `buffer` (at least rows · ROW_BYTES, reused between slabs: stale until filled).

    `storage` is that buffer whole, for the next slab; `buffer` the part that this slab takes.
    """

    __slots__ = (
        "_deficit",
        "_next",
        "_parity",
        "_present",
        "_whole_rows",
        "buffer",
        "damages",
        "lacking",
        "rows",
        "slab",
        "storage",
    )

    def __init__(self, slab: int, rows: int, buffer: memoryview) -> None:
        self.slab = slab
        self.rows = rows
        self.storage = buffer
        self.buffer = buffer[: rows * ROW_BYTES]
        self._present = bytearray(rows * COLUMNS)
        self._deficit = [rows] * COLUMNS  # less _whole_rows: a whole row then costs one addition instead of 32
        self._whole_rows = 0
        self._next = 0  # behind the last source symbol that is here
        self._parity: dict[int, dict[int, bytes]] = {}
        self.damages = 0  # how often it was complete and its hash wrong
        self.lacking = rows * COLUMNS  # symbols, over all columns, until each column has k

    @property
    def is_complete(self) -> bool:
        return self.lacking <= 0

    @property
    def arrived(self) -> int:
        """Symbols that are here, parity that is needed included."""
        return self.rows * COLUMNS - self.lacking

    @property
    def has_little(self) -> bool:
        """Less than an eighth of it is here: to send it again costs hardly more than to repair it."""
        return self.arrived * 8 < self.rows * COLUMNS

    def deficits(self) -> bytes:
        """Symbols that each column still lacks: uint8[COLUMNS]."""
        return bytes(max(0, deficit - self._whole_rows) for deficit in self._deficit)

    @property
    def landing(self) -> int:
        """The symbol that comes next if nothing is lost: nothing from it on is here. -1: none is expected."""
        return -1 if self._parity or self._next >= self.rows * COLUMNS else self._next

    def take_landed(self, first: int, count: int) -> None:
        """Source symbols have landed in their places, from number `first`, which is `landing`, on."""
        end = self._next = first + count
        self._present[first:end] = b"\x01" * count
        self.lacking -= count
        if rest := -first % COLUMNS:
            self._take_part(first % COLUMNS, min(rest, count))
        whole = max(0, end - first - rest) // COLUMNS
        self._whole_rows += whole
        if count > rest + whole * COLUMNS:
            self._take_part(0, end % COLUMNS)

    def _take_part(self, column: int, count: int) -> None:
        for i in range(column, column + count):
            self._deficit[i] -= 1

    def add_sources(self, row: int, column: int, symbols: memoryview) -> int:
        """Put neighbouring source symbols, the first of them in `column`, in their places. Returns how many were new.

        The usual case, symbols never seen and no parity about, is one copy and a few counts for the whole run.
        """
        count = len(symbols) // SYMBOL_BYTES
        index = row * COLUMNS + column
        if self._parity or row >= self.rows or any(self._present[index : index + count]):
            pieces = (symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES] for i in range(count))
            return sum(self.add_source(row, column + i, symbol) for i, symbol in enumerate(pieces))
        self._present[index : index + count] = _PRESENT[:count]
        self._next = max(self._next, index + count)
        self.buffer[index * SYMBOL_BYTES : (index + count) * SYMBOL_BYTES] = symbols
        if count == COLUMNS:
            self._whole_rows += 1
        else:
            self._take_part(column, count)
        self.lacking -= count
        return count

    def add_parities(self, parity_row: int, column: int, symbols: memoryview) -> int:
        """Keep neighbouring parity symbols, the first of them of `column`. Returns how many were of use."""
        pieces = (symbols[at : at + SYMBOL_BYTES] for at in range(0, len(symbols), SYMBOL_BYTES))
        return sum(self.add_parity(parity_row, column + i, symbol) for i, symbol in enumerate(pieces))

    def add_source(self, row: int, column: int, symbol: Buffer) -> bool:
        """Put one source symbol in its place. False: it was there, or lies beyond this slab."""
        index = row * COLUMNS + column
        if row >= self.rows or self._present[index]:
            return False
        self._present[index] = 1
        self._next = max(self._next, index + 1)
        start = index * SYMBOL_BYTES
        self.buffer[start : start + SYMBOL_BYTES] = symbol
        self._count(column)
        return True

    def add_parity(self, parity_row: int, column: int, symbol: Buffer) -> bool:
        """Keep one parity symbol. False: it was there, or its column needs no more."""
        if self._deficit[column] - self._whole_rows <= 0:
            return False
        rows = self._parity.setdefault(column, {})
        if parity_row in rows:
            return False
        rows[parity_row] = bytes(symbol)
        self._count(column)
        return True

    def _count(self, column: int) -> None:
        if self._deficit[column] - self._whole_rows > 0:
            self._deficit[column] -= 1
            self.lacking -= 1

    def recover(self, codec: Codec) -> int:
        """Compute what is missing from parity; call when complete. Returns the number of symbols recovered."""
        recovered = 0
        for first, columns, missing in self._losses():
            shared = set.intersection(*(set(self._parity[c]) for c in range(first, first + columns)))
            if len(shared) < len(missing):  # the same loss mended by different parity rows: one column at a time
                for column in range(first, first + columns):
                    recover_columns(codec, self.buffer, column, 1, missing, self._parity[column])
            else:
                parity = {r: b"".join(self._parity[c][r] for c in range(first, first + columns)) for r in shared}
                recover_columns(codec, self.buffer, first, columns, missing, parity)
            recovered += columns * len(missing)
        self._parity.clear()
        return recovered

    def keep_confirmed(self, leaves: bytes) -> int:
        """Call when the slab's hash is wrong after `recover`: drop every symbol, received or recovered, that does not fit
        its leaf. Returns how many are lacking now. `leaves`: LEAF_BYTES for each symbol of the slab, row-major.

        What was recovered with a forged symbol in its column is wrong as a whole and goes; so does all parity, which has
        no leaves: one round of repair then mends the slab, whatever was forged.
        """
        ours = leaves_of(self.buffer)
        for index in range(self.rows * COLUMNS):
            at = index * LEAF_BYTES
            self._present[index] = ours[at : at + LEAF_BYTES] == leaves[at : at + LEAF_BYTES]
        self._parity.clear()
        self._next = self.rows * COLUMNS  # what comes now fills gaps: no place to land
        self._whole_rows = 0
        self._deficit = [self.rows - sum(self._present[column::COLUMNS]) for column in range(COLUMNS)]
        self.lacking = sum(self._deficit)
        return self.lacking

    def _losses(self) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """(first column, number of columns, missing rows) for runs of columns that lost the same rows."""
        missing = [_zeros(self._present[column::COLUMNS]) for column in range(COLUMNS)]
        first = 0
        for column in range(1, COLUMNS + 1):
            if column == COLUMNS or missing[column] != missing[first]:
                if missing[first]:
                    yield first, column - first, missing[first]
                first = column


_PRESENT = b"\x01" * COLUMNS


def _zeros(present: bytearray) -> tuple[int, ...]:
    """The indices of the zero bytes."""
    found, at = [], present.find(0)
    while at >= 0:
        found.append(at)
        at = present.find(0, at + 1)
    return tuple(found)
