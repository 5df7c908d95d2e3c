# SPDX-License-Identifier: Apache-2.0
"""The carousel: which slab comes next, and how far the one in turn has got."""

from __future__ import annotations

from collections.abc import Iterable

from dpd.protocol.multicast.geometry import COLUMNS, ROWS, Geometry
from dpd.protocol.multicast.member import Member, SlabsSent


class Carousel:
    """Goes round the slabs that some member lacks. A slab in turn is `rows` source rows and `promised` parity rows. Those of the slab set
    `first` come once before the circle begins: what receivers need to make anything of the others.

    What is lacking is kept from one look to the next: it grows only by reports and joins, and a slab that has meanwhile
    come to nobody's need is found out when its turn comes. With a thousand members a look at each would take 2 ms.
    """

    def __init__(self, geometry: Geometry, first: int = 0) -> None:
        self.position = -1  # the slab in turn, or sent last
        self.pass_number = 1
        self.rows = 0  # 0: nothing was sent yet
        self.promised = 0
        self.first_promised = 0
        self.sent = SlabsSent()
        self._geometry = geometry
        self._every_slab = geometry.every_slab
        self._first = first & geometry.every_slab
        self._circle = -1  # the latest slab that was in turn by its number
        self._lacking = 0
        self._row = 0
        self._column = 0

    def note(self, member: Member) -> None:
        """A member joined, reported or came back."""
        self._lacking |= self.sent.lacking(member) & self._every_slab

    def choose(self, wanting: Iterable[Member]) -> int | None:
        """The next slab in the circle that one of these lacks."""
        while self._lacking:
            first = self._lacking & self._first & ~self.sent.ever
            ahead = first or self._lacking >> (self._circle + 1) << (self._circle + 1) or self._lacking
            slab = (ahead & -ahead).bit_length() - 1
            if any(self.sent.is_lacked(slab, member) for member in wanting):
                return slab
            self._lacking &= ~(1 << slab)
        return None

    def begin(self, slab: int, first_seq: int, promised: int, first_promised: int) -> None:
        """This slab's turn has come; its first symbol gets the number `first_seq`."""
        if not self._first & ~self.sent.ever & 1 << slab:
            self.pass_number += slab <= self._circle
            self._circle = slab
        self.position, self.rows = slab, self._geometry.rows(slab)
        self.promised, self.first_promised = promised, first_promised
        self._row = self._column = 0
        self._lacking &= ~(1 << slab)
        self.sent.begin(slab, first_seq)

    @property
    def is_done(self) -> bool:
        """Whether the slab in turn is all sent."""
        return self._row >= self.rows + self.promised

    def ends_source_with(self, limit: int) -> bool:
        """Whether the next piece, of at most `limit` symbols, is the last of the slab's source symbols."""
        return self._row == self.rows - 1 and self._column + limit >= COLUMNS

    def take_rows(self, most: int) -> tuple[int, int]:
        """Whole source rows, at most so many: the first and how many; none in the middle of a row, and not the last where
        parity is to follow."""
        row = self._row
        count = min(most, self.rows - bool(self.promised) - row) if not self._column else 0
        self._row += max(count, 0)
        return row, max(count, 0)

    def take(self, limit: int) -> tuple[int, int, int]:
        """The next piece of a row, at most `limit` symbols: row as on the wire, first column, number of columns."""
        row, column = self._row, self._column
        count = min(limit, COLUMNS - column)
        self._column += count
        if self._column == COLUMNS:
            self._row, self._column = row + 1, 0
        return row if row < self.rows else ROWS + self.first_promised + row - self.rows, column, count
