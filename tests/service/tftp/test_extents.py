# SPDX-License-Identifier: Apache-2.0
"""Extents of real files: on a disk, in memory, cut short, and shared."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

import pytest

from dpd.protocol.tftp.blocks import Blocks
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.service.tftp.extents import BUDGET_BYTES, MAX_EXTENT_BYTES, MIN_EXTENT_BYTES, Held, OpenFile, extent_bytes

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def file(path: Path) -> Iterator[OpenFile]:
    file = open_file(path)
    yield file
    file.close()


def open_file(path: Path, held: Held | None = None) -> OpenFile:
    return OpenFile(os.open(path, os.O_RDONLY), WeakValueDictionary() if held is None else held)


def needed(first: int, blksize: int = 1456, size: int = len(CONTENT)) -> ExtentNeeded:
    wanted = Blocks(size, blksize).ask(first, 4)
    assert wanted is not None
    return wanted


def payload(wire: bytearray, blksize: int) -> bytes:
    segments = (wire[at : at + blksize + 4] for at in range(0, len(wire), blksize + 4))
    return b"".join(segment[4:] for segment in segments)


def evict(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@pytest.mark.parametrize("blksize", [8, 512, 1456, 65464])
def test_an_extent_has_the_files_bytes_behind_its_headers(file: OpenFile, blksize: int) -> None:
    for first in (1, len(CONTENT) // blksize + 1):
        wanted = needed(first, blksize)
        extent, length = file.read(wanted)
        assert length == wanted.length
        assert payload(extent.wire, blksize) == CONTENT[wanted.offset : wanted.offset + length]
        assert int.from_bytes(extent.wire[2:4]) == wanted.first & 0xFFFF


def test_more_blocks_than_one_call_takes_are_read_by_several(file: OpenFile) -> None:
    wanted = ExtentNeeded(1, 3000, 8, 24000)
    extent, length = file.read(wanted)
    assert length == 24000
    assert payload(extent.wire, 8) == CONTENT[:24000]


def test_what_the_kernel_has_comes_at_once_and_what_it_has_not_does_not(path: Path, file: OpenFile) -> None:
    wanted = needed(1)
    file.read(wanted)
    filled = file.at_once(wanted)
    assert filled is not None
    assert payload(filled[0].wire, 1456) == CONTENT[: wanted.length]
    del filled
    evict(path)
    if file.at_once(wanted) is not None:
        pytest.skip("this file system keeps its pages")


def test_a_file_in_memory_needs_no_disk() -> None:
    """As those that are made for one machine, and all on a tmpfs, which has no RWF_NOWAIT."""
    descriptor = os.memfd_create("content", os.MFD_CLOEXEC)
    os.write(descriptor, CONTENT)
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        os.preadv(descriptor, [bytearray(10)], 0, os.RWF_NOWAIT)
    file = OpenFile(descriptor, WeakValueDictionary())
    filled = file.at_once(needed(500))
    assert filled is not None
    assert payload(filled[0].wire, 1456) == CONTENT[needed(500).offset :][: filled[1]]
    file.close()


def test_who_reads_the_same_file_finds_it_done_while_anybody_holds_it(path: Path) -> None:
    held: Held = WeakValueDictionary()
    one, other = open_file(path, held), open_file(path, held)
    first = one.read(needed(1))[0]
    second = other.at_once(needed(1))
    assert second is not None
    assert second[0] is first
    different = other.at_once(needed(1, 512))
    assert different is not None
    assert different[0] is not first
    del first, second, different
    assert not held
    one.close()
    other.close()


def test_a_file_that_was_written_anew_is_another_one(path: Path) -> None:
    held: Held = WeakValueDictionary()
    one = open_file(path, held)
    old = one.read(needed(1))[0]
    path.write_bytes(CONTENT[::-1])
    other = open_file(path, held)
    new = other.at_once(needed(1))
    assert new is not None
    assert payload(new[0].wire, 1456) != payload(old.wire, 1456)
    one.close()
    other.close()


def test_a_file_cut_short_is_told_and_not_shared(path: Path) -> None:
    held: Held = WeakValueDictionary()
    file = open_file(path, held)
    os.truncate(path, 1000)
    assert file.at_once(needed(1)) is None
    extent, length = file.read(needed(1))
    assert length == 1000
    assert not held
    assert extent.wire[4:1004] == CONTENT[:1000]
    file.close()


def test_errors_are_told(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    file = OpenFile(descriptor, WeakValueDictionary())
    for way in (file.at_once, file.read):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            way(needed(1))
    file.close()


def test_many_clients_have_less_each() -> None:
    assert extent_bytes(1) == extent_bytes(256) == MAX_EXTENT_BYTES
    assert extent_bytes(512) == BUDGET_BYTES // 512
    assert extent_bytes(5000) == MIN_EXTENT_BYTES
