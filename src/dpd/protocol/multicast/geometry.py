# SPDX-License-Identifier: Apache-2.0
"""How an object lies on the wire: slabs of rows, rows of symbols.

    object ── slab 0 ─┬─ row 0:   symbol(0,0) symbol(0,1) … symbol(0,31)      one row = one train = 45,056 bytes
              slab 1  ├─ row 1:   symbol(1,0) …
              …       └─ row 127                                              one slab = 5,767,168 bytes

Rows follow each other in file order, so sending is reading. A source block of the erasure code is a *column* of a slab:
neighbouring datagrams belong to different blocks, and a lost train costs each block one symbol (a burst of 32 costs
1.09 x instead of 1.85 x at 1 % loss and 1000 receivers). The last slab has as many rows as it needs; its last row is
padded with zeros on the wire and never in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

SYMBOL_BYTES = 1408  # 28 + 1408 + a 16-byte tag = 1452: fits MTU 1500 under IPv6 without fragments
COLUMNS = 32  # one row stays below the 64 KiB of one segmentation-offload send, and below its 64 segments
ROWS = 128  # k of the erasure code
PARITY_ROWS = 127  # rows 128..254 are parity: n = 255 symbols in GF(256)
ROW_BYTES = COLUMNS * SYMBOL_BYTES
SLAB_BYTES = ROWS * ROW_BYTES


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the slabs of an object of `size_bytes` (> 0) begin and end."""

    size_bytes: int

    @property
    def slab_count(self) -> int:
        return -(-self.size_bytes // SLAB_BYTES)

    @property
    def every_slab(self) -> int:
        """A slab set (bit n is slab n) with each slab of the object."""
        return (1 << self.slab_count) - 1

    def offset(self, slab: int) -> int:
        """Offset in bytes of a slab's first byte in the object."""
        return slab * SLAB_BYTES

    def slab_bytes(self, slab: int) -> int:
        """Bytes of the object in this slab: SLAB_BYTES for all but the last."""
        return min(SLAB_BYTES, self.size_bytes - slab * SLAB_BYTES)

    def rows(self, slab: int) -> int:
        """Source rows of this slab: the k of its columns."""
        return -(-self.slab_bytes(slab) // ROW_BYTES)


def slab_set_bytes(slab_count: int) -> int:
    """Size in bytes of a slab set on the wire or in a journal."""
    return -(-slab_count // 8)


def encode_slab_set(slabs: int, slab_count: int) -> bytes:
    """A slab set as bytes: slab n is bit n % 8 of byte n // 8."""
    return slabs.to_bytes(slab_set_bytes(slab_count), "little")


def decode_slab_set(encoded: bytes, slab_count: int) -> int:
    """The set that `encode_slab_set` wrote. Raises ValueError for a wrong length or a slab beyond the object."""
    slabs = int.from_bytes(encoded, "little")
    if len(encoded) != slab_set_bytes(slab_count) or slabs >> slab_count:
        raise ValueError(
            f"a set of {slab_count} slabs takes {slab_set_bytes(slab_count)} bytes, none of them beyond the last slab"
        )
    return slabs
