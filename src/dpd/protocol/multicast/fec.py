# SPDX-License-Identifier: Apache-2.0
"""The erasure code "rs-cauchy/1": a systematic Cauchy code over GF(256), one source block per column of a slab.

Parity row r (0..126) of a column is the sum over its source rows j of A[r][j] · symbol j, where

    A[r][j] = (128 ^ j) / ((128 + r) ^ j)        in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D)

This is the Cauchy matrix 1/(x_r + y_j), x_r = 128 + r, y_j = j, each column scaled so that parity row 0 is plain XOR.
Every square submatrix can be inverted, so any k of the k + 127 symbols of a column give it back. To mend e lost symbols
only the e x e block is inverted (closed form for Cauchy), never k x k: 55-100 times less work for e <= 8.

All arithmetic on symbols goes through one verb, `Codec.combine`; `StandardCodec` needs the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROW_BYTES, ROWS, SYMBOL_BYTES


def _field_tables() -> tuple[bytes, bytes]:
    exponent, logarithm = bytearray(510), bytearray(256)
    value = 1
    for power in range(255):
        exponent[power] = exponent[power + 255] = value
        logarithm[value] = power
        value <<= 1
        if value & 256:
            value ^= 0x11D
    return bytes(exponent), bytes(logarithm)


_EXP, _LOG = _field_tables()


def multiply(a: int, b: int) -> int:
    """a · b in GF(256)."""
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def divide(a: int, b: int) -> int:
    """a / b in GF(256); b is not 0."""
    return _EXP[_LOG[a] - _LOG[b] + 255] if a else 0


@lru_cache(maxsize=PARITY_ROWS)
def parity_coefficients(parity_row: int) -> bytes:
    """A[parity_row][0..127]; a slab with fewer rows uses the first k."""
    return bytes(divide(ROWS ^ j, (ROWS + parity_row) ^ j) for j in range(ROWS))


class Codec(Protocol):
    """Linear combinations of byte strings over GF(256)."""

    name: str

    def combine(
        self, coefficients: Sequence[bytes], sources: memoryview, stride: int, outputs: Sequence[memoryview]
    ) -> None:
        """outputs[i] = sum over j of coefficients[i][j] · source j, which begins at sources[j · stride].

        All views are writable, outputs of one length, at most `stride`. There are as many sources as begin in `sources`,
        and the last one is whole; a line of coefficients may be longer.
        """


class StandardCodec:
    """`bytes.translate` multiplies, a big integer adds: 0.05-0.2 GB/s, on any Python."""

    name = "stdlib"

    def combine(
        self, coefficients: Sequence[bytes], sources: memoryview, stride: int, outputs: Sequence[memoryview]
    ) -> None:
        length = len(outputs[0])
        pieces = [sources[at : at + length] for at in range(0, len(sources), stride)]
        for row, output in zip(coefficients, outputs, strict=True):
            total = 0
            for factor, source in zip(row, pieces, strict=False):
                if factor == 1:
                    total ^= int.from_bytes(source, "little")
                elif factor:
                    total ^= int.from_bytes(bytes(source).translate(_times(factor)), "little")
            output[:] = total.to_bytes(length, "little")


@lru_cache(maxsize=256)
def _times(factor: int) -> bytes:
    return bytes(multiply(factor, value) for value in range(256))


def encode_parity(codec: Codec, slab: memoryview, first: int, count: int) -> list[bytearray]:
    """Parity rows `first` .. `first + count - 1` of a slab, ROW_BYTES each, all 32 columns at once.

    `slab` is writable and holds whole rows (the last one padded with zeros).
    """
    rows = [bytearray(ROW_BYTES) for _ in range(count)]
    lines = [parity_coefficients(first + i) for i in range(count)]
    codec.combine(lines, slab, ROW_BYTES, [memoryview(row) for row in rows])
    return rows


def recover_columns(
    codec: Codec,
    slab: memoryview,
    first_column: int,
    columns: int,
    missing: Sequence[int],
    parity: Mapping[int, Buffer],
) -> None:
    """Fill in the `missing` rows of neighbouring columns that lost the same rows, in place.

    `slab`: whole rows, writable. `parity`: parity row -> its bytes for these columns; at least len(missing) of them.
    """
    length = columns * SYMBOL_BYTES
    sources = slab[first_column * SYMBOL_BYTES :]
    lost = [sources[row * ROW_BYTES : row * ROW_BYTES + length] for row in missing]
    zero = bytes(length)
    for piece in lost:
        piece[:] = zero
    used = sorted(parity)[: len(missing)]
    work = memoryview(bytearray(2 * len(used) * length))
    pieces = [work[at : at + length] for at in range(0, len(work), length)]
    # What the known rows contribute to each parity row; with the parity row itself it sums to the missing rows' part.
    codec.combine([parity_coefficients(r) for r in used], sources, ROW_BYTES, pieces[: len(used)])
    for piece, r in zip(pieces[len(used) :], used, strict=True):
        piece[:] = parity[r]
    inverse = _invert_block(tuple(used), tuple(missing))
    codec.combine([line + line for line in inverse], work, length, lost)


@lru_cache(maxsize=256)  # a line has as many bytes as the block has lines: 4 MB where every entry lost 127 rows
def _invert_block(parity_rows: tuple[int, ...], missing: tuple[int, ...]) -> list[bytes]:
    """The inverse of A[parity_rows][missing]: one line per missing row, one factor per parity row.

    The inverse of the Cauchy matrix C[i][j] = 1 / (x_i + y_j) is, with + for XOR,
        D[j][i] = prod_k (x_k + y_j)(x_i + y_k)  /  ((x_i + y_j) prod_{k != i} (x_i + x_k) prod_{k != j} (y_j + y_k));
    A is C with column j scaled by s_j = x_0 + y_j, so line j of its inverse is D[j] / s_j. Each product belongs to one x
    or to one y, so all of them cost e^2 and not e^3 steps: 127 lost rows take 3 ms instead of 280.
    """
    xs = [ROWS + r for r in parity_rows]
    ys = list(missing)
    # _LOG[0] is 0, so that a factor of an element with itself drops out.
    of_x = [sum(_LOG[x ^ y] for y in ys) - sum(_LOG[x ^ other] for other in xs) for x in xs]
    of_y = [sum(_LOG[x ^ y] for x in xs) - sum(_LOG[y ^ other] for other in ys) - _LOG[ROWS ^ y] for y in ys]
    return [
        bytes(_EXP[(a + b - _LOG[x ^ y]) % 255] for a, x in zip(of_x, xs, strict=True))
        for b, y in zip(of_y, ys, strict=True)
    ]


assert COLUMNS * SYMBOL_BYTES == ROW_BYTES
