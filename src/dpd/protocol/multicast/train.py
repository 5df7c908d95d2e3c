# SPDX-License-Identifier: Apache-2.0
"""What a sender lets out at once: up to a row of symbols of one slab."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES

WIRE_OVERHEAD_BYTES = 66  # UDP, IPv4 and Ethernet with preamble and gap around each datagram
WIRE_BYTES = DATAGRAM_BYTES + WIRE_OVERHEAD_BYTES  # of one symbol
BURST_S = 0.0005  # what leaves at once takes no longer at the rate set: so much a slower port may have to hold
MAX_ROWS = 8


@dataclass(frozen=True, slots=True)
class Train:
    """Symbols of one slab to send as equal datagrams, as (row, column). `symbols` is None for whole source rows, `rows` of
    them from `row` on; else those of one row are neighbours, as far as they are not repairs."""

    slab: int
    row: int
    symbols: list[tuple[int, int]] | None
    headers: bytes  # HEADER_BYTES for each symbol, in order
    is_repair: bool = False

    @property
    def count(self) -> int:
        return len(self.headers) // HEADER_BYTES

    @property
    def is_row(self) -> bool:
        """Whether it is whole source rows, as they lie in the file."""
        return self.symbols is None

    @property
    def rows(self) -> int:
        """Whole source rows in it."""
        return self.count // COLUMNS if self.symbols is None else 0

    @property
    def begins_slab(self) -> bool:
        """Whether the slab's first symbol leads it, in its turn."""
        return self.row == 0 and not self.is_repair and (self.symbols is None or self.symbols[0] == (0, 0))


def train_rows(rate_bit_s: float) -> int:
    """Whole rows in a train at that rate: what leaves in BURST_S, at most MAX_ROWS. One call of the owner for each train
    then costs less than a call for each row."""
    if not rate_bit_s:
        return MAX_ROWS
    return min(max(int(rate_bit_s * BURST_S / 8 / WIRE_BYTES / COLUMNS), 1), MAX_ROWS)


def train_symbols(rate_bit_s: float) -> int:
    """Symbols in a train at a ceiling of so many bit/s on the wire, 0: none. A row is cut into equal parts: 4 at 100
    Mbit/s, 16 at 500 Mbit/s, all 32 from 770 Mbit/s on."""
    if not rate_bit_s:
        return COLUMNS
    most = min(max(int(rate_bit_s * BURST_S / 8 / WIRE_BYTES), 1), COLUMNS)
    return -(-COLUMNS // -(-COLUMNS // most))
