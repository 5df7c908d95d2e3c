# SPDX-License-Identifier: Apache-2.0
"""rs-cauchy/1: vectors that fix the code for other implementations, and recovery from every kind of loss."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.fec import (
    StandardCodec,
    divide,
    encode_parity,
    multiply,
    parity_coefficients,
    recover_columns,
)
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROW_BYTES, ROWS, SYMBOL_BYTES
from dpd.service.isal import best_codec

FAST = best_codec()
# Computed apart from the module, by long multiplication: A[1][0..3], and SHA-256 over A, row by row.
VECTOR_ROW_1 = "551a1ca0"
VECTOR_MATRIX = "de3888a42bca8aee3f45ae0d765108e858afeea363a8a42cf2fe382f0e58781a"


def random_slab(rows: int, seed: int = 0) -> bytearray:
    return bytearray(random.Random(seed).randbytes(rows * ROW_BYTES))


def lose(slab: bytearray, rows: set[int], first_column: int = 0, columns: int = COLUMNS) -> bytearray:
    damaged = bytearray(slab)
    for row in rows:
        start = row * ROW_BYTES + first_column * SYMBOL_BYTES
        damaged[start : start + columns * SYMBOL_BYTES] = b"\xee" * (columns * SYMBOL_BYTES)
    return damaged


@given(st.integers(1, 255), st.integers(1, 255), st.integers(0, 255))
def test_the_field_is_a_field(a: int, b: int, c: int) -> None:
    assert divide(multiply(a, b), b) == a
    assert multiply(a, b ^ c) == multiply(a, b) ^ multiply(a, c)
    assert multiply(multiply(a, b), c) == multiply(a, multiply(b, c))


def test_the_field_is_the_one_of_the_specification() -> None:
    assert multiply(0x80, 2) == 0x1D  # modulo 0x11D
    assert multiply(0x53, 0xCA) == 0x8F
    assert multiply(0, 7) == divide(0, 7) == 0


def test_parity_row_0_is_plain_xor() -> None:
    assert parity_coefficients(0) == b"\x01" * ROWS
    slab = random_slab(3)
    expected = bytes(
        a ^ b ^ c for a, b, c in zip(slab[:ROW_BYTES], slab[ROW_BYTES:-ROW_BYTES], slab[-ROW_BYTES:], strict=True)
    )
    assert encode_parity(StandardCodec(), memoryview(slab), 0, 1) == [expected]


def test_the_coefficients_are_those_of_the_specification() -> None:
    """A change here breaks every receiver in the field: it would need another fec id."""
    matrix = b"".join(parity_coefficients(r) for r in range(PARITY_ROWS))
    assert parity_coefficients(1)[:4].hex() == VECTOR_ROW_1
    assert sha256(matrix).hexdigest() == VECTOR_MATRIX
    assert 0 not in matrix


def test_parity_of_a_short_slab_uses_the_first_k_coefficients() -> None:
    slab = random_slab(2)
    padded = bytearray(slab) + bytes(3 * ROW_BYTES)
    assert encode_parity(FAST, memoryview(slab), 5, 2) == encode_parity(FAST, memoryview(padded), 5, 2)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_k_symbols_of_a_column_give_it_back(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 12))
    missing = data.draw(st.sets(st.integers(0, rows - 1), min_size=1))
    extra = data.draw(st.integers(0, 2))
    parity_rows = data.draw(
        st.sets(st.integers(0, PARITY_ROWS - 1), min_size=len(missing), max_size=len(missing) + extra)
    )
    first = data.draw(st.integers(0, COLUMNS - 1))
    columns = data.draw(st.integers(1, COLUMNS - first))
    slab = random_slab(rows, seed=rows)
    span = slice(first * SYMBOL_BYTES, (first + columns) * SYMBOL_BYTES)
    parity = {r: encode_parity(FAST, memoryview(slab), r, 1)[0][span] for r in parity_rows}
    damaged = lose(slab, missing, first, columns)
    recover_columns(FAST, memoryview(damaged), first, columns, sorted(missing), parity)
    assert damaged == slab


@pytest.mark.parametrize("lost", [1, 8, 64, PARITY_ROWS])
def test_a_whole_slab_comes_back_from_as_many_parity_rows_as_it_lost(lost: int) -> None:
    slab = random_slab(ROWS)
    missing = random.Random(lost).sample(range(ROWS), lost)
    parity = dict(enumerate(encode_parity(FAST, memoryview(slab), 0, lost)))
    damaged = lose(slab, set(missing))
    recover_columns(FAST, memoryview(damaged), 0, COLUMNS, sorted(missing), parity)
    assert damaged == slab


def test_the_standard_library_alone_recovers_too() -> None:
    slab = random_slab(5)
    parity = dict(enumerate(encode_parity(StandardCodec(), memoryview(slab), 0, 3)))
    damaged = lose(slab, {0, 2, 4})
    recover_columns(StandardCodec(), memoryview(damaged), 0, COLUMNS, [0, 2, 4], parity)
    assert damaged == slab
