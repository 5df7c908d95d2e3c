# SPDX-License-Identifier: Apache-2.0
"""Which datagrams of a train are neighbours in a row, so that they are taken at once."""

from __future__ import annotations

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import HEADER, HEADER_BYTES, Flag

_COLUMN_BYTES = bytes(range(COLUMNS))
# Offsets of header bytes that neighbours in a row share: type, flags, low bytes of session, slab and row.
_SHARED = (0, 1, 7, 11, 13)
_SAME = (0, 7, 11)  # type, low bytes of session and slab
_ROW_FLAGS = bytes((0, Flag.END_OF_SLAB))
_ROW_OF = bytes(i // COLUMNS for i in range(ROWS * COLUMNS))
_COLUMN_OF = bytes(i % COLUMNS for i in range(ROWS * COLUMNS))
# What a header has to be multiplied by to have it 32 times, and what then is to be added to columns and tx_seqs.
_EVERY = sum(1 << (8 * HEADER_BYTES * i) for i in range(COLUMNS))
_PLACES = sum(
    ((i << 8 * (HEADER_BYTES - 15)) + (i << 8 * (HEADER_BYTES - 20))) << (8 * HEADER_BYTES * (COLUMNS - 1 - i))
    for i in range(COLUMNS)
)
_COUNTING = bytes(i & 0xFF for i in range(256 + ROWS * COLUMNS))


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


def unbroken(headers: bytearray, first: int, count: int, tx_seq: int) -> int:
    """How many of `count` headers, numbered from `first` on, are those of the source symbols `first`, `first + 1`, … of one
    slab, sent one after the other and not as repairs; `tx_seq` is that of the first.

    5 us for 16 rows: the same comparison as in `run_length` for all of them at once.
    """
    start, end = first * HEADER_BYTES, (first + count) * HEADER_BYTES
    if count == COLUMNS and not first % COLUMNS and headers[start + 1] in _ROW_FLAGS:  # a row: one comparison
        whole = int.from_bytes(headers[start : start + HEADER_BYTES], "big") * _EVERY + _PLACES
        if headers[start:end] == whole.to_bytes(COLUMNS * HEADER_BYTES + 1, "big")[1:]:
            return count
    low = tx_seq & 0xFF
    expected = (
        (13, _ROW_OF[first : first + count]),
        (14, _COLUMN_OF[first : first + count]),
        (19, _COUNTING[low : low + count]),
    )
    for offset, pattern in expected:
        count = min(count, _alike(headers[start + offset : end : HEADER_BYTES], pattern))
    flags = headers[start + 1 : end : HEADER_BYTES]
    if odd := flags.translate(None, _ROW_FLAGS):
        count = min(count, flags.index(odd[0]))
    for offset in _SAME:
        column = headers[start + offset : end : HEADER_BYTES]
        count = min(count, _alike(column, column[:1] * len(column)))
    last = HEADER.unpack_from(headers, start + (count - 1) * HEADER_BYTES) if count else None
    return count if last and last[8] == (tx_seq + count - 1) & 0xFFFFFFFF else 0


def _alike(one: Buffer, other: Buffer) -> int:
    """Length of what two strings of one length share from their beginning."""
    if one == other:
        return len(one)
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) - (difference.bit_length() + 7) // 8
