# SPDX-License-Identifier: Apache-2.0
"""Neighbours in a row: the strided comparison against the plain one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import HEADER_BYTES, Header, MessageType, decode_header
from dpd.protocol.multicast.runs import run_length
from dpd.protocol.multicast.train_headers import encode_row_headers

FIRST = Header(MessageType.DATA, session=0x01020304, epoch=5, slab=0x0708, row=9, tx_seq=1000, tx_time=5, nack_ms=2)
ROW = encode_row_headers(FIRST)


def rows_of(*headers: Header) -> bytearray:
    return bytearray(b"".join(header.encode() for header in headers))


def plain(headers: bytearray, start: int, limit: int) -> int:
    """The same by decoding each: how many follow the first one's column and tx_seq, all else of it alike."""
    decoded = [decode_header(headers[at : at + HEADER_BYTES]) for at in range(start, len(headers), HEADER_BYTES)]
    count = 1
    while count < min(limit, len(decoded)):
        expected = replace(decoded[0], column=decoded[0].column + count, tx_seq=decoded[0].tx_seq + count)
        if decoded[count] != expected:
            break
        count += 1
    return count


@pytest.mark.parametrize("first", [0, 1, 17, 31])
def test_a_whole_row_is_one_run_from_wherever_it_begins(first: int) -> None:
    limit = COLUMNS - first
    assert run_length(bytearray(ROW), first * HEADER_BYTES, first, 1000 + first, limit) == limit


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_run_is_no_longer_than_what_there_is(limit: int) -> None:
    assert run_length(bytearray(ROW), 0, 0, 1000, limit) == limit


@given(st.sets(st.integers(0, COLUMNS - 1), max_size=12))
def test_a_row_with_holes_falls_into_its_runs(lost: set[int]) -> None:
    kept = [replace(FIRST, column=c, tx_seq=1000 + c) for c in range(COLUMNS) if c not in lost]
    headers = rows_of(*kept)
    at = 0
    while at < len(kept):
        limit = min(len(kept) - at, COLUMNS - kept[at].column)
        count = run_length(headers, at * HEADER_BYTES, kept[at].column, kept[at].tx_seq, limit)
        whole = plain(headers, at * HEADER_BYTES, limit)
        assert 1 <= count <= whole
        at += count


@pytest.mark.parametrize(
    "change",
    [
        {"row": 10},
        {"slab": 0x0709},
        {"flags": 2},
        {"session": 0x01020305},
        {"type": MessageType.PARITY},
    ],
    ids=str,
)
@pytest.mark.parametrize("where", [1, 16, 31])
def test_a_stranger_ends_the_run(change: dict[str, int], where: int) -> None:
    all_headers = [replace(FIRST, column=c, tx_seq=1000 + c) for c in range(COLUMNS)]
    all_headers[where] = replace(all_headers[where], **change)  # type: ignore[arg-type]
    assert run_length(rows_of(*all_headers), 0, 0, 1000, COLUMNS) <= where
