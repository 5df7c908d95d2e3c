# SPDX-License-Identifier: Apache-2.0
"""The headers of a train: of a whole row, or of repairs here and there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import HEADER_BYTES, Flag, Header, MessageType

_STRIDE = 8 * HEADER_BYTES
_EVERY_HEADER = sum(1 << (_STRIDE * i) for i in range(COLUMNS))
# Position of header i in a row: column i in byte 14, and i in the low bits of tx_seq (bytes 16..19); 28 bytes each.
_ROW_POSITIONS = sum(
    ((i << 8 * (HEADER_BYTES - 15)) + (i << 8 * (HEADER_BYTES - 20))) << (_STRIDE * (COLUMNS - 1 - i))
    for i in range(COLUMNS)
)
_ROW_HEADER_BYTES = COLUMNS * HEADER_BYTES


def encode_row_headers(first: Header) -> bytes:
    """The 32 headers of a whole row, back to back, for columns 0..31 and tx_seq `first.tx_seq` + 0..31.

    One multiplication on a big integer copies the header 32 times and one addition numbers them: 1.5 us a row, where
    packing 32 headers one by one takes 20. `first.tx_seq` mod 2**32 must leave room for the 31 that follow.
    """
    common = int.from_bytes(first.encode(), "big")
    return (common * _EVERY_HEADER + _ROW_POSITIONS).to_bytes(_ROW_HEADER_BYTES, "big")


def encode_repair_headers(first: Header, symbols: Sequence[tuple[int, int]], *, is_end: bool) -> bytes:
    """The headers of repairs at these (row, column), numbered from `first.tx_seq`; `is_end`: the last one says that no
    more will come for now."""
    headers = bytearray()
    for i, (row, column) in enumerate(symbols):
        kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
        flags = first.flags | (Flag.END_OF_SLAB if is_end and i == len(symbols) - 1 else 0)
        header = replace(first, type=kind, flags=flags, row=row, column=column, tx_seq=first.tx_seq + i)
        headers += header.encode()
    return bytes(headers)
