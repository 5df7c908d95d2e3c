# SPDX-License-Identifier: Apache-2.0
"""An object and what a sender's owner does with it: symbols of rows, parity by the real code, leaves."""

from __future__ import annotations

import hashlib
import struct

from dpd.protocol.multicast.fec import Codec, encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.leaves import leaves_of
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.sender import Train
from dpd.service.isal import best_codec

CODEC: Codec = best_codec()
_PLACE, _PLACE_AT = struct.Struct("!HB"), 12  # row and column in a header


class Content:
    """The object, cut into slabs. All receivers of a simulation share its bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.geometry = Geometry(len(content))
        self.slabs = [self._cut(s) for s in range(self.geometry.slab_count)]
        self.hashes = [hashlib.sha256(slab).digest() for slab in self.slabs]
        self._true_hashes = list(self.hashes)
        self._parity: dict[tuple[int, int], bytearray] = {}
        self._leaves: dict[int, bytes] = {}

    def _cut(self, slab: int) -> bytes:
        start = slab * SLAB_BYTES
        return self.content[start : start + self.geometry.slab_bytes(slab)]

    @property
    def symbols(self) -> int:
        return sum(self.geometry.rows(s) * COLUMNS for s in range(self.geometry.slab_count))

    def padded(self, slab: int) -> bytearray:
        return bytearray(self.slabs[slab].ljust(self.geometry.rows(slab) * ROW_BYTES, b"\0"))

    def is_good(self, slab: int, stored: memoryview) -> bool:
        """Whether a receiver would find the manifest's hash. The bytes themselves are compared, which is stricter, and
        hashed only once for all receivers; a test may put a wrong hash into `hashes`."""
        true = self.slabs[slab]
        return self.hashes[slab] == self._true_hashes[slab] and bytes(stored[: len(true)]) == true

    def leaves(self, slab: int) -> bytes:
        if slab not in self._leaves:
            self._leaves[slab] = leaves_of(memoryview(self.padded(slab)))
        return self._leaves[slab]

    def compute_parity(self, slab: int, first: int, count: int) -> None:
        for i, row in enumerate(encode_parity(CODEC, memoryview(self.padded(slab)), first, count)):
            self._parity[slab, first + i] = row

    def drop_parity(self, slab: int) -> None:
        for key in [key for key in self._parity if key[0] == slab]:
            del self._parity[key]

    def row(self, slab: int, row: int) -> bytes:
        if row >= ROWS:
            return bytes(self._parity[slab, row - ROWS])
        return self.slabs[slab][row * ROW_BYTES : (row + 1) * ROW_BYTES].ljust(ROW_BYTES, b"\0")

    def datagrams(self, train: Train) -> list[bytes]:
        """What each header says: symbols of source and of parity rows, one row or several."""
        headers = [train.headers[at : at + HEADER_BYTES] for at in range(0, len(train.headers), HEADER_BYTES)]
        places = [_PLACE.unpack_from(header, _PLACE_AT) for header in headers]
        rows = {row: self.row(train.slab, row) for row in {row for row, _ in places}}
        return [h + rows[r][c * SYMBOL_BYTES :][:SYMBOL_BYTES] for h, (r, c) in zip(headers, places, strict=True)]
