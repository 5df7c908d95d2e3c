# SPDX-License-Identifier: Apache-2.0
"""Where a sender's symbols come from: source rows out of the mapped file, parity rows once they are computed, or as they
were stored when the image was published."""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import threading
from collections.abc import Sequence
from functools import partial

from dpd.content.kinds import ContentFormat
from dpd.content.library import Content, Library
from dpd.content.storage.stored_parity import ParityCode, StoredParity
from dpd.content.wim.file import WimFile
from dpd.content.wim.index import index_extents
from dpd.errors import ContentCorrupt
from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.fec import Codec, StandardCodec, encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.sender import Train
from dpd.service.multicast.parity_rows import ParityRows
from dpd.service.multicast.row_sender import address_of_mapping

log = logging.getLogger(__name__)


def tell_unusable(reason: str, **fields: str) -> None:
    log.warning("stored parity is not used", extra={"reason": reason, **fields})


def parity_code(rows: int, codec: Codec) -> ParityCode | None:
    """How publishing is to make `rows` parity rows of each slab; None for none of them, and with a codec that would hold
    publishing up and the interpreter with it."""
    if rows and codec.name == StandardCodec.name:
        tell_unusable("publishing cannot make it without ISA-L: install libisal2 or the pyeclib package")
        return None
    return ParityCode(rows, ROW_BYTES, partial(_encode_slab, codec, rows)) if rows else None


def _encode_slab(codec: Codec, rows: int, slab: memoryview) -> list[bytearray]:
    """Of a slab of the image, whose last row may be cut."""
    missing = -len(slab) % ROW_BYTES
    whole = memoryview(bytearray(slab) + bytes(missing)) if missing else slab
    return encode_parity(codec, whole, 0, rows)


def open_slab_source(library: Library, content: Content, codec: Codec) -> SlabSource:
    """The symbols of a published image. Raises ContentCorrupt, ContentNotFound; stored parity that cannot be used is told
    and done without."""
    descriptor = library.open_blob(content)
    stored = None
    try:
        stored = library.open_parity(content)
        if stored is not None and stored.row_bytes != ROW_BYTES:
            stored.close()
            raise ContentCorrupt(f"stored parity has rows of {stored.row_bytes} bytes, expected {ROW_BYTES}")
    except ContentCorrupt as error:
        stored = None
        tell_unusable(str(error), content=str(content))
    geometry = Geometry(content.size_bytes)
    return SlabSource(descriptor, geometry, codec, stored, _index_slabs(descriptor, content, geometry))


def _index_slabs(descriptor: int, content: Content, geometry: Geometry) -> int:
    """Slab set: where a WIM tells what is where. Who has that can apply all else in the order in which it comes."""
    if content.format is not ContentFormat.WIM:
        return 0
    found = 0
    for begin, end in index_extents(WimFile(descriptor)):
        found |= (1 << (end - 1) // SLAB_BYTES + 1) - (1 << begin // SLAB_BYTES)
    return found & geometry.every_slab


class _Closed(OSError):
    """The session ended while a worker computed for it."""


class SlabSource:
    """The symbols of one content. Owns `descriptor` and `stored`, also where the constructor raises ContentCorrupt. `first_slabs`: slab
    set of those to be sent before the others."""

    def __init__(
        self,
        descriptor: int,
        geometry: Geometry,
        codec: Codec,
        stored: StoredParity | None = None,
        first_slabs: int = 0,
    ) -> None:
        self.first_slabs = first_slabs
        self._stored = stored
        self._geometry = geometry
        self._codec = codec
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            self._map = mmap.mmap(descriptor, geometry.size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError) as error:  # ValueError: the file is shorter
            os.close(descriptor)
            if stored is not None:
                stored.close()
            raise ContentCorrupt(
                f"the image's file cannot be mapped to its {geometry.size_bytes} bytes: {error}; "
                "`dpd content verify` tells what is wrong with it"
            ) from None
        self._file = memoryview(self._map)
        self._address = address_of_mapping(self._map)
        whole = geometry.size_bytes // ROW_BYTES * ROW_BYTES
        self._whole_bytes = whole
        self._tail = memoryview(bytes(self._file[whole:]).ljust(ROW_BYTES, b"\0"))
        self._parity = ParityRows(self._make_rows)

    def address(self, slab: int, row: int, rows: int) -> int | None:
        """Where these source rows are mapped, back to back; None: the last of them has to be padded."""
        start = slab * SLAB_BYTES + row * ROW_BYTES
        return self._address + start if start + rows * ROW_BYTES <= self._whole_bytes else None

    def pieces(self, train: Train) -> list[memoryview]:
        """Header, symbol, header, symbol, … for one gathering send."""
        headers = memoryview(train.headers)
        pieces = []
        if train.symbols is None:
            row = self._row(train.slab, train.row)
            at = 0
            for start in range(0, COLUMNS * HEADER_BYTES, HEADER_BYTES):
                pieces.append(headers[start : start + HEADER_BYTES])
                pieces.append(row[at : at + SYMBOL_BYTES])
                at += SYMBOL_BYTES
            return pieces
        for i, (row_number, column) in enumerate(train.symbols):
            pieces.append(headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES])
            pieces.append(self._row(train.slab, row_number)[column * SYMBOL_BYTES : (column + 1) * SYMBOL_BYTES])
        return pieces

    def _row(self, slab: int, row: int) -> memoryview:
        if row >= ROWS:
            return self._parity.row(slab, row - ROWS)
        start = slab * SLAB_BYTES + row * ROW_BYTES
        return self._file[start : start + ROW_BYTES] if start < self._whole_bytes else self._tail

    def compute_parity(self, slab: int, first: int, count: int) -> None:
        """Add parity rows behind the `first` ones that are there; blocking, on any thread. Raises OSError."""
        with contextlib.suppress(_Closed):
            self._parity.add(slab, first, count)

    def _make_rows(self, slab: int, first: int, count: int) -> Sequence[Buffer]:
        stored = self._stored_rows(slab)[first : first + count]
        return [*stored, *self._encode(slab, first + len(stored), count - len(stored))]

    def _stored_rows(self, slab: int) -> Sequence[Buffer]:
        """The first parity rows of a slab where they were stored; the first damage is told, and ends their use."""
        stored = self._stored
        if stored is None:
            return ()
        try:
            return stored.rows(slab)
        except ContentCorrupt as error:
            with self._lock:
                is_first, self._stored = self._stored is stored and not self._is_closed, None
            if is_first:
                tell_unusable(str(error))
            stored.close()
            return ()

    def _encode(self, slab: int, first: int, count: int) -> Sequence[Buffer]:
        """Parity rows out of the file, as many as there are. The slab is read, not mapped: a disk error then is an error and
        not SIGBUS."""
        count = min(count, PARITY_ROWS - first)
        if count <= 0:
            return ()
        with self._lock:
            if self._is_closed:
                raise _Closed(errno.EBADF, "the session has ended")
            descriptor = os.dup(self._descriptor)  # stays ours if the session ends meanwhile
        try:
            rows = self._read_slab(descriptor, slab)
        finally:
            os.close(descriptor)
        return encode_parity(self._codec, rows, first, count)

    def _read_slab(self, descriptor: int, slab: int) -> memoryview:
        rows = memoryview(bytearray(self._geometry.rows(slab) * ROW_BYTES))
        wanted = self._geometry.slab_bytes(slab)
        done = 0
        while done < wanted:
            read = os.preadv(descriptor, [rows[done:wanted]], self._geometry.offset(slab) + done)
            if not read:
                raise OSError(errno.EIO, "the file has become shorter")
            done += read
        return rows

    def forget_parity(self, slab: int) -> None:
        self._parity.forget(slab)

    def prefetch(self, slab: int) -> None:
        """Let the kernel read the next slabs ahead of their turn."""
        os.posix_fadvise(self._descriptor, self._geometry.offset(slab), 2 * SLAB_BYTES, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self._descriptor)
            stored, self._stored = self._stored, None
        if stored is not None:
            stored.close()
        self._file.release()
        with contextlib.suppress(BufferError):  # a train still points into it: the mapping goes with that
            self._map.close()
