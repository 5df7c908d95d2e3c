# SPDX-License-Identifier: Apache-2.0
"""The file as numbered blocks, of which an extent is in memory: what is sent is cut out of it, without a copy."""

from __future__ import annotations

import struct

from dpd.errors import MisuseError
from dpd.protocol.machine import Buffer
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.protocol.tftp.packet import Opcode

# Read-ahead: eight windows between these two. A pread of 256 KiB from the page cache costs less than a thread hop; but two
# thousand machines in lock-step shall not take half a gigabyte.
MIN_EXTENT_BYTES = 1 << 16
EXTENT_BYTES = 1 << 18
DATA = int(Opcode.DATA)

_pack_header = struct.Struct(">HH").pack


class Blocks:
    """Blocks count from 1 and never wrap in here; only their low 16 bits are on the wire. `last` is shorter than `blksize`,
    perhaps empty (RFC 1350 section 6)."""

    __slots__ = ("_asked", "_extent", "_offset", "blksize", "last", "size_bytes")

    def __init__(self, size_bytes: int, blksize: int) -> None:
        self.size_bytes, self.blksize = size_bytes, blksize
        self.last = size_bytes // blksize + 1
        self._extent, self._offset = memoryview(b""), 0
        self._asked: ExtentNeeded | None = None

    def here(self, first: int, last: int) -> bool:
        """Whether all of these are in memory."""
        end = min(last * self.blksize, self.size_bytes)
        return self._offset <= (first - 1) * self.blksize and end <= self._offset + len(self._extent)

    def ask(self, first: int, count: int) -> ExtentNeeded | None:
        """What to read so that these are here; None while something is being read. An extent begins at the window, so that a
        restart finds its blocks, and holds two windows at least, so that an ACK during the read changes nothing."""
        if self._asked is not None:
            return None
        start = (first - 1) * self.blksize
        window = count * self.blksize
        length = max(MIN_EXTENT_BYTES, min(8 * window, EXTENT_BYTES), 2 * window)
        length = min(length, self.size_bytes - start)
        self._asked = ExtentNeeded(start, length)
        return self._asked

    def provide(self, offset: int, data: Buffer) -> bool:
        """The bytes that were asked for. False: there are fewer, so the file has become shorter. Raises MisuseError."""
        asked, self._asked = self._asked, None
        if asked is None or asked.offset != offset or len(data) > asked.length:
            raise MisuseError(f"extent at {offset} with {len(data)} bytes, expected {asked}")
        if len(data) < asked.length:
            return False
        self._extent, self._offset = memoryview(data), offset
        return True

    def train(self, first: int, count: int) -> list[Buffer]:
        """Header and payload of each of these, which must be here."""
        pieces: list[Buffer] = []
        blksize, extent = self.blksize, self._extent
        start = (first - 1) * blksize - self._offset
        # Past the extent only the file's last block can reach, and a slice stops there by itself.
        for number in range(first, first + count):
            pieces.append(_pack_header(DATA, number & 0xFFFF))
            pieces.append(extent[start : start + blksize])
            start += blksize
        return pieces

    def joined(self, first: int, count: int) -> bytes | None:
        """These in one piece, as they go out; None where one of them is not here or is the last."""
        blksize, extent = self.blksize, self._extent
        start = (first - 1) * blksize - self._offset
        if start < 0 or start + count * blksize > len(extent) or first + count > self.last:
            return None
        if count == 1:
            return _pack_header(DATA, first & 0xFFFF) + extent[start : start + blksize]
        pieces: list[Buffer] = []
        for number in range(first, first + count):
            pieces.append(_pack_header(DATA, number & 0xFFFF))
            pieces.append(extent[start : start + blksize])
            start += blksize
        return b"".join(pieces)

    def drop(self) -> None:
        """Give the memory back."""
        self._extent = memoryview(b"")
