# SPDX-License-Identifier: Apache-2.0
"""A file cut into blocks, an extent at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.tftp.extents import extent_of

from dpd.errors import MisuseError
from dpd.protocol.tftp.blocks import MAX_STEP, Blocks, Extent
from dpd.protocol.tftp.events import ExtentNeeded


def framed(content: bytes, blksize: int, first: int, last: int) -> bytes:
    """These blocks as RFC 1350 has them."""
    payloads = ((n, content[(n - 1) * blksize : n * blksize]) for n in range(first, last + 1))
    return b"".join(b"\0\3" + (n & 0xFFFF).to_bytes(2) + payload for n, payload in payloads)


def reader(content: bytes, blksize: int, first: int = 1, count: int = 1, extent_bytes: int = 1 << 18) -> Blocks:
    blocks = Blocks(len(content), blksize, extent_bytes)
    needed = blocks.ask(first, count)
    assert needed is not None
    assert blocks.provide(*extent_of(content, needed))
    return blocks


@pytest.mark.parametrize(("size", "last"), [(0, 1), (511, 1), (512, 2), (513, 2), (1024, 3)])
def test_the_last_block_is_shorter_than_the_others(size: int, last: int) -> None:
    assert Blocks(size, 512).last == last


@given(size=st.integers(0, 5000), blksize=st.integers(8, 700), first=st.integers(1, 60), count=st.integers(1, 70))
def test_a_train_is_that_part_of_the_file(size: int, blksize: int, first: int, count: int) -> None:
    content = bytes(index * 7 & 255 for index in range(size))
    last = size // blksize + 1
    first = min(first, last)
    count = min(count, last - first + 1)
    blocks = reader(content, blksize, first, count, 700)
    assert blocks.here(first, first + count - 1)
    pieces = blocks.train(first, count)
    assert len(pieces) == count
    assert b"".join(pieces) == framed(content, blksize, first, first + count - 1)


@given(size=st.integers(0, 5000), blksize=st.integers(8, 700), first=st.integers(1, 60), count=st.integers(1, 9))
def test_a_run_is_the_whole_blocks_of_the_extent_and_never_the_files_last(
    size: int, blksize: int, first: int, count: int
) -> None:
    content = bytes(index * 7 & 255 for index in range(size))
    last = size // blksize + 1
    first = min(first, last)
    blocks = reader(content, blksize, first, min(count, last - first + 1), 700)
    wire, start, end = blocks.run(first)
    whole = (end - start) // (blksize + 4)
    assert wire[start:end] == framed(content, blksize, first, first + whole - 1)
    assert first + whole - 1 < last
    assert first + whole == last or not blocks.here(first + whole, first + whole)


@pytest.mark.parametrize("first", [1, 65530, 65536, 131070, 200_000])
def test_headers_have_the_low_sixteen_bits_of_a_number(first: int) -> None:
    extent = Extent(ExtentNeeded(first, first + 1030, 8, 1031 * 8))
    assert extent.wire == framed(bytes((first + 1031) * 8), 8, first, first + 1030)


def test_extents_are_the_same_for_all_and_hold_every_window_that_begins_in_one() -> None:
    content = bytes(200 * 512)
    asked = {Blocks(len(content), 512, 20 * 512).ask(first, 4) for first in range(1, 21)}
    assert asked == {ExtentNeeded(1, 23, 512, 23 * 512)}
    blocks = reader(content, 512, 20, 4, 20 * 512)
    assert blocks.here(1, 23)
    assert not blocks.here(20, 24)
    assert Blocks(len(content), 512, 20 * 512).ask(21, 4) == ExtentNeeded(21, 43, 512, 23 * 512)


def test_one_read_at_a_time_and_only_what_was_asked() -> None:
    blocks = Blocks(5000, 512)
    whole = ExtentNeeded(1, 10, 512, 5000)
    assert blocks.ask(1, 4) == whole
    assert blocks.ask(1, 4) is None
    with pytest.raises(MisuseError):
        blocks.provide(Extent(ExtentNeeded(2, 10, 512, 4488)), 4488)
    assert blocks.ask(1, 4) == whole
    assert not blocks.provide(Extent(whole), 4000)  # the file has become shorter


@pytest.mark.parametrize(
    ("blksize", "windowsize", "blocks"),
    [
        (1456, 1, 180),
        (1456, 16, 180 + 15),
        (1456, 64, 180 + 63),
        (65464, 16, 2 * 16 + 15),  # two windows, so that an ACK during the read changes little
        (8, 1, MAX_STEP),
    ],
)
def test_read_ahead_is_within_bounds(blksize: int, windowsize: int, blocks: int) -> None:
    assert Blocks(10 << 20, blksize).ask(1, windowsize) == ExtentNeeded(1, blocks, blksize, blocks * blksize)


def test_what_was_dropped_is_not_here() -> None:
    blocks = reader(bytes(5000), 512)
    assert blocks.here(1, 10)
    blocks.drop()
    assert not blocks.here(1, 1)
