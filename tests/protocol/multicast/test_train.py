# SPDX-License-Identifier: Apache-2.0
"""How many symbols leave at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.train import BURST_S, WIRE_BYTES, Train, train_symbols


@pytest.mark.parametrize(
    ("rate_bit_s", "symbols"),
    [(0, 32), (1e6, 1), (10e6, 1), (100e6, 4), (500e6, 16), (770e6, 32), (1e9, 32), (1e11, 32)],
)
def test_a_train_is_as_long_as_half_a_millisecond(rate_bit_s: float, symbols: int) -> None:
    assert train_symbols(rate_bit_s) == symbols


@given(st.floats(1e6, 1e11))
def test_no_train_takes_longer_and_a_row_is_cut_evenly(rate_bit_s: float) -> None:
    symbols = train_symbols(rate_bit_s)
    assert symbols == 1 or symbols * WIRE_BYTES * 8 / rate_bit_s <= BURST_S
    pieces = -(-COLUMNS // symbols)
    assert pieces * symbols - COLUMNS < pieces, "the last piece lacks less than one symbol of each"


def test_a_train_knows_what_it_is() -> None:
    headers = bytes(4 * HEADER_BYTES)
    whole = Train(5, 0, None, bytes(COLUMNS * HEADER_BYTES))
    piece = Train(5, 0, [(0, c) for c in range(4)], headers)
    second = Train(5, 0, [(0, c) for c in range(4, 8)], headers)
    repair = Train(5, 0, [(0, c) for c in range(4)], headers, is_repair=True)
    assert [t.count for t in (whole, piece)] == [COLUMNS, 4]
    assert [t.is_row for t in (whole, piece)] == [True, False]
    assert [t.begins_slab for t in (whole, piece, second, repair)] == [True, True, False, False]
