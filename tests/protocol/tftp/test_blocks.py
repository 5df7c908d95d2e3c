# SPDX-License-Identifier: Apache-2.0
"""A file cut into blocks, an extent at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MisuseError
from dpd.protocol.tftp.blocks import EXTENT_BYTES, MIN_EXTENT_BYTES, Blocks
from dpd.protocol.tftp.events import ExtentNeeded


@pytest.mark.parametrize(("size", "last"), [(0, 1), (511, 1), (512, 2), (513, 2), (1024, 3)])
def test_the_last_block_is_shorter_than_the_others(size: int, last: int) -> None:
    assert Blocks(size, 512).last == last


@given(size=st.integers(0, 5000), blksize=st.integers(8, 700), first=st.integers(1, 60), count=st.integers(1, 70))
def test_a_train_is_that_part_of_the_file(size: int, blksize: int, first: int, count: int) -> None:
    content = bytes(index * 7 & 255 for index in range(size))
    blocks = Blocks(size, blksize)
    first = min(first, blocks.last)
    count = min(count, blocks.last - first + 1)
    needed = blocks.ask(first, count)
    assert needed is not None
    assert blocks.provide(needed.offset, content[needed.offset : needed.offset + needed.length])
    assert blocks.here(first, first + count - 1)
    pieces = blocks.train(first, count)
    assert b"".join(pieces[1::2]) == content[(first - 1) * blksize : (first - 1 + count) * blksize]
    assert [bytes(header) for header in pieces[0::2]] == [b"\0\3" + n.to_bytes(2) for n in range(first, first + count)]


def test_joined_blocks_are_whole_ones_and_never_the_last() -> None:
    blocks = Blocks(1024, 512)
    assert blocks.joined(1, 1) is None
    blocks.ask(1, 1)
    blocks.provide(0, b"a" * 512 + b"b" * 512)
    first, second = b"\0\3\0\1" + b"a" * 512, b"\0\3\0\2" + b"b" * 512
    assert blocks.joined(1, 1) == first
    assert blocks.joined(2, 1) == second
    assert blocks.joined(1, 2) == first + second
    assert blocks.joined(2, 2) is blocks.joined(3, 1) is None


def test_what_lies_before_the_extent_is_not_here() -> None:
    blocks = Blocks(4 * EXTENT_BYTES, 512)
    needed = blocks.ask(1000, 4)
    assert needed == ExtentNeeded(999 * 512, MIN_EXTENT_BYTES)
    blocks.provide(needed.offset, bytes(needed.length))
    assert blocks.joined(999, 1) is blocks.joined(999, 4) is None
    assert blocks.joined(1000, 4) is not None
    assert not blocks.here(999, 1000)


def test_one_read_at_a_time_and_only_what_was_asked() -> None:
    blocks = Blocks(5000, 512)
    assert blocks.ask(1, 4) == ExtentNeeded(0, 5000)
    assert blocks.ask(1, 4) is None
    with pytest.raises(MisuseError):
        blocks.provide(512, b"")
    assert blocks.ask(1, 4) == ExtentNeeded(0, 5000)
    assert not blocks.provide(0, bytes(4000))  # the file has become shorter


@pytest.mark.parametrize(
    ("blksize", "windowsize", "length"),
    [
        (1456, 1, MIN_EXTENT_BYTES),
        (1456, 16, 8 * 16 * 1456),
        (1456, 64, EXTENT_BYTES),
        (65464, 16, 2 * 16 * 65464),  # so that an ACK during the read changes nothing
    ],
)
def test_read_ahead_is_some_windows_within_bounds(blksize: int, windowsize: int, length: int) -> None:
    assert Blocks(10 << 20, blksize).ask(1, windowsize) == ExtentNeeded(0, length)
