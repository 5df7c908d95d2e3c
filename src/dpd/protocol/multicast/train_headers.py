# SPDX-License-Identifier: Apache-2.0
"""The headers of a train: of neighbours in a row, or of repairs here and there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import HEADER_BYTES, Flag, Header, MessageType

_STRIDE = 8 * HEADER_BYTES


_ROW, _COLUMN, _SEQ = (1 << 8 * (HEADER_BYTES - end) for end in (14, 15, 20))  # a one in the field that ends there


@lru_cache(maxsize=2 * COLUMNS)
def _multipliers(count: int) -> tuple[int, int]:
    """Copies a header `count` times; adds to row, column and tx_seq what header number i has more than the first."""
    every = sum(1 << (_STRIDE * i) for i in range(count))
    places = ((i, i // COLUMNS * _ROW + i % COLUMNS * _COLUMN + i * _SEQ) for i in range(count))
    return every, sum(place << (_STRIDE * (count - 1 - i)) for i, place in places)


def encode_row_headers(first: Header, count: int = COLUMNS) -> bytes:
    """The headers of `count` neighbours in a row, back to back, numbered from `first.column` and `first.tx_seq` on; of more
    than a row where `first.column` is 0 and `count` whole rows.

    One multiplication on a big integer copies the header and one addition numbers the copies: 1.5 us for 32, where packing
    them one by one takes 20. `first.tx_seq` mod 2**32 must leave room for those that follow.
    """
    every, positions = _multipliers(count)
    return (int.from_bytes(first.encode(), "big") * every + positions).to_bytes(count * HEADER_BYTES, "big")


def encode_repair_headers(first: Header, symbols: Sequence[tuple[int, int]], *, is_end: bool) -> bytes:
    """The headers of repairs at these (row, column), numbered from `first.tx_seq`; `is_end`: the last one says that no
    more will come for now."""
    headers, at = bytearray(), 0
    end = len(symbols) - is_end
    while at < end:
        room = 0x1_0000_0000 - (first.tx_seq + at & 0xFFFFFFFF)  # none of a run may wrap
        count = _run_length(symbols, at, min(end, at + room))
        headers += encode_row_headers(_placed(first, symbols[at], at), count)
        at += count
    if is_end:
        last = _placed(first, symbols[-1], at)
        headers += replace(last, flags=last.flags | Flag.END_OF_SLAB).encode()
    return bytes(headers)


def _placed(first: Header, symbol: tuple[int, int], at: int) -> Header:
    row, column = symbol
    kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
    return replace(first, type=kind, row=row, column=column, tx_seq=(first.tx_seq + at) & 0xFFFFFFFF)


def _run_length(symbols: Sequence[tuple[int, int]], at: int, end: int) -> int:
    row, column = symbols[at]
    count = 1
    while at + count < end and symbols[at + count] == (row, column + count):
        count += 1
    return count
