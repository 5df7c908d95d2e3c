# SPDX-License-Identifier: Apache-2.0
"""Where slabs and rows begin and end, and slab sets as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import (
    COLUMNS,
    ROW_BYTES,
    ROWS,
    SLAB_BYTES,
    SYMBOL_BYTES,
    Geometry,
    decode_slab_set,
    encode_slab_set,
    slab_set_bytes,
)


@pytest.mark.parametrize(
    ("size_bytes", "slabs", "rows_of_last"),
    [
        (1, 1, 1),
        (SYMBOL_BYTES, 1, 1),
        (ROW_BYTES, 1, 1),
        (ROW_BYTES + 1, 1, 2),
        (SLAB_BYTES - ROW_BYTES, 1, ROWS - 1),
        (SLAB_BYTES, 1, ROWS),
        (SLAB_BYTES + 1, 2, 1),
        (10_000_000_000, 1734, 123),
    ],
)
def test_the_last_slab_has_as_many_rows_as_it_needs(size_bytes: int, slabs: int, rows_of_last: int) -> None:
    geometry = Geometry(size_bytes)
    assert geometry.slab_count == slabs
    assert geometry.rows(slabs - 1) == rows_of_last
    assert geometry.every_slab.bit_count() == slabs


@given(st.integers(1, 1 << 44))
def test_slabs_lie_end_to_end_over_the_whole_object(size_bytes: int) -> None:
    geometry = Geometry(size_bytes)
    last = geometry.slab_count - 1
    assert geometry.offset(last) + geometry.slab_bytes(last) == size_bytes
    assert 0 < geometry.slab_bytes(last) <= geometry.rows(last) * ROW_BYTES
    assert geometry.slab_bytes(last) > (geometry.rows(last) - 1) * ROW_BYTES
    if last:
        assert geometry.slab_bytes(0) == geometry.offset(1) == SLAB_BYTES


def test_a_row_fits_one_segmentation_offload_send() -> None:
    assert COLUMNS <= 64
    assert COLUMNS * (SYMBOL_BYTES + 28) <= 65507


@given(st.integers(1, 3000).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, (1 << count) - 1))))
def test_a_slab_set_survives_its_encoding(case: tuple[int, int]) -> None:
    count, slabs = case
    encoded = encode_slab_set(slabs, count)
    assert len(encoded) == slab_set_bytes(count)
    assert decode_slab_set(encoded, count) == slabs


def test_slab_n_is_bit_n_mod_8_of_byte_n_div_8() -> None:
    assert encode_slab_set(1 << 0 | 1 << 9, 12) == b"\x01\x02"


@pytest.mark.parametrize(
    "encoded", [b"", b"\x00", b"\x00\x00\x00", b"\x00\x10"], ids=["none", "short", "long", "beyond"]
)
def test_a_set_of_another_object_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="a set of 12 slabs takes 2 bytes"):
        decode_slab_set(encoded, 12)
