# SPDX-License-Identifier: Apache-2.0
"""The file as numbered blocks, of which an extent is in memory, framed: what is sent is a slice of it, without a copy.

An extent is the blocks of one stretch as they go out, each behind its header. It depends on nothing but the file, the
blksize and where it begins, which is a fixed grid: so who reads the file into one can hand it to all clients that want
the same. Joining header and block for each window cost 0.3 us for each block, 1.2 of 16 us for a window of 4.
"""

from __future__ import annotations

from dpd.errors import MisuseError
from dpd.protocol.machine import Buffer
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.protocol.tftp.packet import HEADER_BYTES, Opcode

# A new extent costs some 20 us beside its bytes. With 64 KiB that is 0.4 us for each block of lock-step, with this 0.1.
EXTENT_BYTES = 1 << 18
MAX_STEP = 1024  # blocks, where they are small: each is a buffer of its own for preadv(2)

_DATA = bytes([Opcode.DATA])
# Both bytes of a block's number for three rounds of 65536 blocks, which is more than any extent begins at and holds.
_HIGH = b"".join(bytes([high]) * 256 for high in range(256)) * 3
_LOW = bytes(range(256)) * (256 * 3)


class Extent:
    """Blocks `first` to `last` of a file side by side on the wire: `count` segments of `segment` bytes, the last one perhaps shorter.
    The file's bytes belong behind the HEADER_BYTES of each, which are there already. Once filled it is never changed."""

    __slots__ = ("__weakref__", "blksize", "count", "first", "last", "segment", "wire")

    def __init__(self, needed: ExtentNeeded) -> None:
        self.first, self.last, self.blksize = needed.first, needed.last, needed.blksize
        self.count = count = self.last - self.first + 1
        self.segment = segment = self.blksize + HEADER_BYTES
        self.wire = wire = bytearray(needed.length + count * HEADER_BYTES)
        number = self.first & 0xFFFF
        wire[1::segment] = _DATA * count
        wire[2::segment] = _HIGH[number : number + count]
        wire[3::segment] = _LOW[number : number + count]


class Blocks:
    """Blocks count from 1 and never wrap in here; only their low 16 bits are on the wire. `last` is shorter than `blksize`,
    perhaps empty (RFC 1350 section 6)."""

    __slots__ = ("_asked", "_extent_bytes", "_first", "_last", "_segment", "_wire", "blksize", "last", "size_bytes")

    def __init__(self, size_bytes: int, blksize: int, extent_bytes: int = EXTENT_BYTES) -> None:
        self.size_bytes, self.blksize = size_bytes, blksize
        self.last = size_bytes // blksize + 1
        self._extent_bytes = extent_bytes
        self._segment = blksize + HEADER_BYTES
        self._asked: ExtentNeeded | None = None
        self.drop()

    def here(self, first: int, last: int) -> bool:
        """Whether all of these are in memory."""
        return self._first <= first and last <= self._last

    def ask(self, first: int, count: int) -> ExtentNeeded | None:
        """What to read so that `count` blocks from `first` on are here; None while something is being read. Extents begin on a
        grid, the same for all who read with these sizes, and reach over the next one's beginning, so that each window that
        begins in one also ends in it. They hold two windows at least, so that an ACK during the read changes little."""
        if self._asked is not None:
            return None
        step = max(min(self._extent_bytes // self.blksize, MAX_STEP), 2 * count)
        start = first - (first - 1) % step
        last = min(start + step + count - 2, self.last)
        length = min(last * self.blksize, self.size_bytes) - (start - 1) * self.blksize
        self._asked = ExtentNeeded(start, last, self.blksize, length)
        return self._asked

    def provide(self, extent: Extent, length: int) -> bool:
        """What was asked for, with the file's first `length` bytes of it. False: that is not all, so the file has become
        shorter. Raises MisuseError."""
        asked, self._asked = self._asked, None
        if asked is None or (asked.first, asked.last, asked.blksize) != (extent.first, extent.last, extent.blksize):
            raise MisuseError(f"extent of blocks {extent.first} to {extent.last}, expected {asked}")
        if length < asked.length:
            return False
        self._wire, self._first, self._last = memoryview(extent.wire), extent.first, extent.last
        return True

    def train(self, first: int, count: int) -> list[Buffer]:
        """Each of these, which must be here, with its header."""
        start, segment = (first - self._first) * self._segment, self._segment
        return [self._wire[at : at + segment] for at in range(start, start + count * segment, segment)]

    def run(self, first: int) -> tuple[memoryview, int, int]:
        """The extent's wire, where block `first` begins in it, and where whole blocks end that are not the file's last."""
        start = (first - self._first) * self._segment
        end = (min(self._last, self.last - 1) + 1 - self._first) * self._segment
        return self._wire, start, end

    def drop(self) -> None:
        """Give the memory back."""
        self._wire, self._first, self._last = memoryview(b""), 1, 0
