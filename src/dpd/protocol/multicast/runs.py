# SPDX-License-Identifier: Apache-2.0
"""Which datagrams of a train are neighbours in a row, so that they are taken at once."""

from __future__ import annotations

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import HEADER, HEADER_BYTES

_COLUMN_BYTES = bytes(range(COLUMNS))
# Offsets of header bytes that neighbours in a row share: type, flags, low bytes of session, slab and row.
_SHARED = (0, 1, 7, 11, 13)


def run_length(headers: bytearray, start: int, column: int, tx_seq: int, limit: int) -> int:
    """How many headers from byte `start` on are neighbours in one row, at most `limit`: the next columns, the next
    tx_seqs, all else alike.

    Strided slices compare one byte of all headers at once: 2 us for a row against 8 for 32 headers one by one. Bytes
    that only damage or forgery would change are left to the slab's hash.
    """
    columns = headers[start + 14 : start + limit * HEADER_BYTES : HEADER_BYTES]
    count = _alike(columns, _COLUMN_BYTES[column : column + limit])
    while count > 1:
        end = start + count * HEADER_BYTES
        last = HEADER.unpack_from(headers, end - HEADER_BYTES)
        if last[8] == tx_seq + count - 1 and all(
            headers[start + offset : end : HEADER_BYTES] == headers[start + offset : start + offset + 1] * count
            for offset in _SHARED
        ):
            return count
        count >>= 1
    return 1


def _alike(one: Buffer, other: Buffer) -> int:
    """Length of what two strings of one length share from their beginning."""
    if one == other:
        return len(one)
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) - (difference.bit_length() + 7) // 8
