# SPDX-License-Identifier: Apache-2.0
"""The first parity rows of each slab, computed when an image is published and kept beside its blob.

    page 0             header: magic, rows, row bytes, slab bytes, size and SHA-256 of the blob, and last the checksum
    then               a BLAKE3 for each slab's rows, 32 bytes each, filled up to a whole page
    then               the rows: those of slab 0, of slab 1, …; each file has `rows` for every slab

The checksum is BLAKE3 over the header before it and the table. A slab's rows are believed once they fit their entry, so
that a damaged disk costs the computation that this file was to save and never sends a wrong symbol. What parity is, the
caller knows: this package stores and finds rows.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from dpd.errors import ContentCorrupt

MAGIC = b"dpd-parity/1\0\0\0\0"
PAGE_BYTES = 4096
HASH_BYTES = 32

_HEADER = struct.Struct("!16sHHIIQ32s")  # magic, rows, 0, row_bytes, slab_bytes, size_bytes, SHA-256 of the blob

Encode = Callable[[memoryview], Sequence[bytes | bytearray | memoryview]]


@dataclass(frozen=True, slots=True)
class ParityCode:
    """How parity is made: `encode` gives `rows` rows of row_bytes for one slab, of which the last may be shorter."""

    rows: int
    row_bytes: int
    encode: Encode


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things lie in the file of one blob."""

    rows: int
    row_bytes: int
    slab_bytes: int
    size_bytes: int

    @property
    def slab_count(self) -> int:
        return -(-self.size_bytes // self.slab_bytes)

    @property
    def parity_bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def table_end(self) -> int:
        return PAGE_BYTES + self.slab_count * HASH_BYTES

    def offset(self, slab: int) -> int:
        return -(-self.table_end // PAGE_BYTES) * PAGE_BYTES + slab * self.parity_bytes

    @property
    def file_bytes(self) -> int:
        return self.offset(self.slab_count)

    def header(self, sha256: str) -> bytes:
        return _HEADER.pack(
            MAGIC, self.rows, 0, self.row_bytes, self.slab_bytes, self.size_bytes, bytes.fromhex(sha256)
        )


def parity_file_bytes(code: ParityCode, slab_bytes: int, size_bytes: int) -> int:
    """What the parity of an image will take on the disk."""
    return _Layout(code.rows, code.row_bytes, slab_bytes, size_bytes).file_bytes


class ParityWriter:
    """Takes the slabs of an image in order, writes their rows, and at the end what makes the file one."""

    def __init__(self, descriptor: int, code: ParityCode, slab_bytes: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._code = code
        self._layout = _Layout(code.rows, code.row_bytes, slab_bytes, size_bytes)
        self._hashes: list[bytes] = []

    def update(self, piece: memoryview) -> None:
        """Whole slabs; only the last one of the image may be shorter."""
        for at in range(0, len(piece), self._layout.slab_bytes):
            rows = b"".join(self._code.encode(piece[at : at + self._layout.slab_bytes]))
            assert len(rows) == self._layout.parity_bytes
            _write(self._descriptor, rows, self._layout.offset(len(self._hashes)))
            self._hashes.append(blake3(rows).digest())

    def finish(self, sha256: str) -> None:
        """The file is whole, and on the disk when this returns."""
        header, table = self._layout.header(sha256), b"".join(self._hashes)
        _write(self._descriptor, table, PAGE_BYTES)
        _write(self._descriptor, header + blake3(header + table).digest(), 0)
        os.fsync(self._descriptor)


def _write(descriptor: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], offset + written)


class StoredParity:
    """The parity of one blob. Rows are read and not mapped: a disk error is an error then and not SIGBUS, and what was
    checked is what is sent. From any thread."""

    def __init__(self, descriptor: int, sha256: str, size_bytes: int, slab_bytes: int) -> None:
        """Owns the descriptor. Raises ContentCorrupt, the descriptor closed, where the file is not that of this blob and
        whole."""
        self._descriptor = descriptor
        self._lock = threading.Lock()
        try:
            self._layout, self._table = _open(descriptor, sha256, size_bytes, slab_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def row_count(self) -> int:
        """How many parity rows each slab has here, the first ones."""
        return self._layout.rows

    @property
    def row_bytes(self) -> int:
        return self._layout.row_bytes

    @property
    def slab_count(self) -> int:
        return self._layout.slab_count

    def rows(self, slab: int) -> list[memoryview]:
        """The rows of a slab, after a look at all of them. Raises ContentCorrupt, also when closed."""
        size = self._layout.row_bytes
        whole = memoryview(self._read(self._layout.parity_bytes, self._layout.offset(slab)))
        if blake3(whole).digest() != self._table[slab * HASH_BYTES : (slab + 1) * HASH_BYTES]:
            raise ContentCorrupt(f"stored parity of slab {slab} is damaged")
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, size: int, offset: int) -> bytes:
        with self._lock:
            try:
                return os.pread(self._descriptor, size, offset)
            except OSError as error:
                raise ContentCorrupt(f"stored parity cannot be read: {error.strerror}") from None


def _open(descriptor: int, sha256: str, size_bytes: int, slab_bytes: int) -> tuple[_Layout, bytes]:
    """The layout and the table of hashes."""
    try:
        start = os.pread(descriptor, _HEADER.size + HASH_BYTES, 0)
        table_bytes = HASH_BYTES * -(-size_bytes // slab_bytes)
        table, file_bytes = os.pread(descriptor, table_bytes, PAGE_BYTES), os.fstat(descriptor).st_size
    except OSError as error:
        raise ContentCorrupt(f"stored parity cannot be read: {error.strerror}") from None
    header, checksum = start[: _HEADER.size], start[_HEADER.size :]
    _, rows, _, row_bytes, *_ = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
    layout = _Layout(rows, row_bytes, slab_bytes, size_bytes)
    if header != layout.header(sha256):
        raise ContentCorrupt("stored parity is that of another image, or of another version of dpd")
    if file_bytes != layout.file_bytes:
        raise ContentCorrupt(f"stored parity has {file_bytes} bytes, expected {layout.file_bytes}")
    if blake3(header + table).digest() != checksum:
        raise ContentCorrupt("stored parity has a damaged table")
    return layout, table
