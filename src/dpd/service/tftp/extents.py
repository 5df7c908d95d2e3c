# SPDX-License-Identifier: Apache-2.0
"""The extents of files that clients read over TFTP: read without a detour where that needs no disk, shared by all who hold them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from array import array
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakValueDictionary

from dpd.protocol.tftp.blocks import Extent
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.protocol.tftp.packet import HEADER_BYTES

IOV_MAX = 1024  # buffers that one preadv(2) takes
# In memory at most, were no two clients at one place: two thousand machines in lock-step shall not take half a gigabyte.
BUDGET_BYTES = 1 << 26
MIN_EXTENT_BYTES, MAX_EXTENT_BYTES = 1 << 16, 1 << 18

_preadv2 = ctypes.CDLL(None, use_errno=True).preadv2
_preadv2.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int)
_preadv2.restype = ctypes.c_ssize_t

Identity: TypeAlias = tuple[int, int, int, int]  # device, inode, time of the last change, size
Filled: TypeAlias = tuple[Extent, int]  # how many bytes of the file are in it
Held: TypeAlias = (
    "WeakValueDictionary[tuple[Identity, int, int, int], Extent]"  # by file, blksize, first and last block
)


def extent_bytes(transfers: int) -> int:
    """How much of its file a transfer shall have in memory while so many run."""
    return min(max(BUDGET_BYTES // max(transfers, 1), MIN_EXTENT_BYTES), MAX_EXTENT_BYTES)


class OpenFile:
    """A file that one transfer reads; the descriptor is its own from now on. `held` are the extents of all transfers, for as
    long as one of them holds them: of 32 clients that boot the same thing at once, one reads and 31 find it done."""

    def __init__(self, descriptor: int, held: Held) -> None:
        self._descriptor, self._held = descriptor, held
        found = os.fstat(descriptor)
        self._identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        self._flags = 0 if _in_memory(descriptor) else os.RWF_NOWAIT

    def at_once(self, needed: ExtentNeeded) -> Filled | None:
        """The extent, if it can be had without waiting for the disk; None where not, or where the file system (NFS, an old
        kernel) cannot tell, or has less than that. Raises OSError."""
        extent = self._held.get(self._key(needed))
        if extent is not None:
            return extent, needed.length
        try:
            filled = self._fill(needed, self._flags)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS):
                return None
            raise
        return filled if filled[1] == needed.length else None

    def read(self, needed: ExtentNeeded) -> Filled:
        """The same in a thread, for as long as the disk takes; less than was asked for where the file ends. Raises OSError."""
        return self._fill(needed, 0)

    def close(self) -> None:
        """Once nothing is being read."""
        os.close(self._descriptor)

    def _fill(self, needed: ExtentNeeded, flags: int) -> Filled:
        extent = Extent(needed)
        length = _read_into(extent, self._descriptor, needed.offset, flags)
        if length == needed.length:
            self._held[self._key(needed)] = extent
        return extent, length

    def _key(self, needed: ExtentNeeded) -> tuple[Identity, int, int, int]:
        return self._identity, needed.blksize, needed.first, needed.last


def _read_into(extent: Extent, descriptor: int, offset: int, flags: int) -> int:
    """The file's bytes behind each header, by preadv2(2) from C: Python's wants an object for each block, and takes 88 us for 256
    KiB of which this takes 50. Returns how many there were. Raises OSError."""
    base, behind = ctypes.addressof(ctypes.c_char.from_buffer(extent.wire)), len(extent.wire)
    iovecs = array("Q", bytes(16 * extent.count))
    iovecs[0::2] = array(
        "Q", range(base + HEADER_BYTES, base + HEADER_BYTES + extent.count * extent.segment, extent.segment)
    )
    iovecs[1::2] = array("Q", [extent.blksize]) * extent.count
    iovecs[-1] = behind - (extent.count - 1) * extent.segment - HEADER_BYTES
    total = 0
    for start in range(0, extent.count, IOV_MAX):
        count = min(extent.count - start, IOV_MAX)
        at = iovecs.buffer_info()[0] + 16 * start
        length = _preadv2(descriptor, at, count, offset + start * extent.blksize, flags)
        if length < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        total += length
    return total


def _in_memory(descriptor: int) -> bool:
    """Whether it is on a tmpfs or was made by memfd_create: these answer F_GET_SEALS and no others, have no disk to wait for, and
    know no RWF_NOWAIT. A thread's hop for each extent took a fifth of lock-step's speed and a third of a window of 4's."""
    with suppress(OSError):
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) >= 0
    return False
