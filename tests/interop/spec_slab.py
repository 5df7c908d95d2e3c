# SPDX-License-Identifier: Apache-2.0
"""The second receiver of dpd-mc/1 (spec_receiver.py): header, erasure code, and one slab in assembly."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from typing import NamedTuple

SYMBOL, COLUMNS, ROWS, PARITY_ROWS = 1408, 32, 128, 127  # 1
ROW = SYMBOL * COLUMNS
SLAB = ROW * ROWS
HEADER = struct.Struct(">BBHIIHBBIIHH")  # 4
DATA, PARITY, BEAT, NCF, CONTROL, NACK, REPORT = 1, 2, 3, 4, 5, 8, 9
REPAIR, END_OF_SLAB, END_OF_PASS, SEALED = 1, 2, 4, 8


class Header(NamedTuple):
    version_and_type: int
    flags: int
    epoch: int
    session: int
    slab: int
    row: int
    column: int
    speed_class: int
    tx_seq: int
    tx_time: int
    promised_rows: int
    nack_ms: int


def ahead(a: int, b: int) -> int:
    """How far `a` is ahead of `b`, modulo 2**32; negative where it is behind."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def slab_set(slabs: set[int], count: int) -> bytes:
    bits = bytearray((count + 7) // 8)
    for slab in slabs:
        bits[slab // 8] |= 1 << slab % 8
    return bytes(bits)


# Section 2, by logarithms.
EXP, LOG = [1] * 510, [0] * 256
for i in range(1, 510):
    doubled = EXP[i - 1] << 1
    EXP[i] = doubled ^ 0x11D if doubled > 255 else doubled
for i in range(255):
    LOG[EXP[i]] = i


def multiply(a: int, b: int) -> int:
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def divide(a: int, b: int) -> int:
    return EXP[LOG[a] - LOG[b] + 255] if a else 0


@functools.cache
def table(factor: int) -> bytes:
    """Every byte times `factor`, for bytes.translate."""
    return bytes(multiply(factor, b) for b in range(256))


def times(symbol: bytes, factor: int) -> int:
    return int.from_bytes(symbol.translate(table(factor)), "big")


def coefficient(r: int, j: int) -> int:
    return divide(128 ^ j, (128 + r) ^ j)


def recover(source: dict[int, bytes], parity: dict[int, bytes], k: int) -> dict[int, bytes]:
    """The source symbols that `source` lacks, from as many of `parity`; both by row, from 0."""
    lacking = [j for j in range(k) if j not in source]
    used = sorted(parity)[: len(lacking)]
    size = len(next(iter(parity.values()))) if lacking else 0
    sums = [int.from_bytes(parity[r], "big") for r in used]
    for i, r in enumerate(used):
        for j, symbol in source.items():
            sums[i] ^= times(symbol, coefficient(r, j))
    matrix = [[coefficient(r, j) for j in lacking] for r in used]
    for p, pivot in enumerate(matrix):  # Gauss and Jordan; no leading minor of a Cauchy matrix is 0
        inverse = divide(1, pivot[p])
        matrix[p] = pivot = [multiply(inverse, c) for c in pivot]
        sums[p] = times(sums[p].to_bytes(size, "big"), inverse)
        for q, row in enumerate(matrix):
            if q != p and (factor := row[p]):
                matrix[q] = [c ^ multiply(factor, d) for c, d in zip(row, pivot, strict=True)]
                sums[q] ^= times(sums[p].to_bytes(size, "big"), factor)
    return {j: sums[i].to_bytes(size, "big") for i, j in enumerate(lacking)}


class Assembly:
    """What came of one slab, and when it is to be asked for (8)."""

    def __init__(self, slab: int, rows: int) -> None:
        self.slab, self.k = slab, rows
        self.source: list[dict[int, bytes]] = [{} for _ in range(COLUMNS)]
        self.parity: list[dict[int, bytes]] = [{} for _ in range(COLUMNS)]
        self.received = self.bad_hashes = 0
        self.promised, self.saw_end, self.has_left = 0, False, False
        self.due = self.asked_at = math.inf
        self.natural_due = math.inf  # without what an NCF or a promise added
        self.repeat_s, self.gained, self.met_ncf = 0.02, 0, False

    def take(self, header: Header, symbol: bytes) -> bool:
        """Whether it was new and of use."""
        is_source = header.row < ROWS
        place = (self.source if is_source else self.parity)[header.column]
        row = header.row if is_source else header.row - ROWS
        if row in place or not self.lacks(header.column):
            return False
        place[row] = symbol
        self.received += 1
        self.gained += 1
        return True

    def lacks(self, column: int) -> int:
        return max(0, self.k - len(self.source[column]) - len(self.parity[column]))

    def deficits(self) -> bytes:
        return bytes(self.lacks(c) for c in range(COLUMNS))

    def content(self) -> bytes:
        for column, source in enumerate(self.source):
            source.update(recover(source, self.parity[column], self.k))
        return b"".join(self.source[c][r] for r in range(self.k) for c in range(COLUMNS))

    def keep_confirmed(self, leaves: bytes) -> None:
        for column, source in enumerate(self.source):
            self.parity[column].clear()
            for row in list(source):
                at = (COLUMNS * row + column) * 8
                if hashlib.sha256(source[row]).digest()[:8] != leaves[at : at + 8]:
                    del source[row]
