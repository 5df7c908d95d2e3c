# SPDX-License-Identifier: Apache-2.0
"""The integrity table of a WIM: SHA-1 of every chunk from the end of the header to the end of the blob table.

The table sits behind what it covers, so it is read first and its chunks are checked while the file streams by for
another reason (publishing): the file is read once.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dpd.errors import ContentCorrupt

MAX_TABLE_BYTES = 64 << 20  # 33 TB at the 10-MiB chunks that every known writer uses
_HEAD = struct.Struct("<3I")  # size of the table, entries, bytes of a chunk
_DIGEST_BYTES = 20


@dataclass(frozen=True, slots=True)
class IntegrityTable:
    """What the table promises: `digests[i]` covers chunk_bytes from `start + i * chunk_bytes`, the last one up to `end`."""

    start: int
    end: int
    chunk_bytes: int
    digests: tuple[bytes, ...]


def read_table(table: bytes, start: int, end: int) -> IntegrityTable:
    """The table of a file whose header ends at `start` and whose blob table ends at `end`. Raises ContentCorrupt."""
    if len(table) < _HEAD.size:
        raise ContentCorrupt(f"integrity table damaged: {len(table)} bytes, expected at least {_HEAD.size}")
    size, entries, chunk_bytes = _HEAD.unpack_from(table)
    if chunk_bytes == 0:
        raise ContentCorrupt("integrity table damaged: its chunks have 0 bytes")
    if size != len(table) or entries * _DIGEST_BYTES + _HEAD.size != size:
        raise ContentCorrupt(
            f"integrity table damaged: it says {size} bytes and {entries} chunks, but the header gives it {len(table)} bytes"
        )
    needed = -(-(end - start) // chunk_bytes)
    if entries != needed:
        raise ContentCorrupt(
            f"integrity table mismatch: {entries} chunks of {chunk_bytes} bytes, expected {needed} for bytes {start} to {end - 1}"
        )
    digests = (table[at : at + _DIGEST_BYTES] for at in range(_HEAD.size, size, _DIGEST_BYTES))
    return IntegrityTable(start, end, chunk_bytes, tuple(digests))


class IntegrityVerifier:
    """Takes a whole WIM from its first byte to its last, in pieces of any size, and checks every chunk that ends."""

    def __init__(self, table: IntegrityTable) -> None:
        self._table = table
        self._position = 0
        self._chunk = 0
        self._hash = hashlib.sha1(usedforsecurity=False)

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """The next bytes of the file. Raises ContentCorrupt that names the chunk."""
        for begin, end, closes in self._cuts(len(piece)):
            self._hash.update(memoryview(piece)[begin:end])
            if closes:
                self._close_chunk()
        self._position += len(piece)

    def finish(self) -> None:
        """The file has ended. Raises ContentCorrupt if chunks are missing."""
        if self._chunk != len(self._table.digests):
            raise ContentCorrupt(f"truncated: ends at byte {self._position}, expected at least {self._table.end} bytes")

    def _cuts(self, length: int) -> Iterator[tuple[int, int, bool]]:
        """Parts of a piece of `length` bytes that belong to one chunk each, and whether that chunk ends with them."""
        table, at = self._table, max(self._position, self._table.start)
        stop = min(self._position + length, table.end)
        while at < stop:
            _, chunk_end = self._extent(self._chunk)
            end = min(stop, chunk_end)
            yield at - self._position, end - self._position, end == chunk_end
            at = end

    def _extent(self, chunk: int) -> tuple[int, int]:
        begin = self._table.start + chunk * self._table.chunk_bytes
        return begin, min(begin + self._table.chunk_bytes, self._table.end)

    def _close_chunk(self) -> None:
        if self._hash.digest() != self._table.digests[self._chunk]:
            begin, end = self._extent(self._chunk)
            raise ContentCorrupt(
                f"integrity table mismatch: chunk {self._chunk} (bytes {begin} to {end - 1}) has another SHA-1"
            )
        self._chunk += 1
        self._hash = hashlib.sha1(usedforsecurity=False)
