# SPDX-License-Identifier: Apache-2.0
"""The headers of a train, beside those encoded one by one."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import HEADER_BYTES, Flag, Header, MessageType, decode_header
from dpd.protocol.multicast.train_headers import encode_repair_headers, encode_row_headers

U8, U16, U32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))


@given(
    st.builds(
        Header, st.just(MessageType.DATA), U32, U16, U8, U32, st.integers(0, 127), st.just(0), U8, U32, U32, U16, U16
    )
)
def test_the_headers_of_a_row_are_those_of_its_32_symbols(first: Header) -> None:
    first = replace(first, column=0, tx_seq=min(first.tx_seq, 2**32 - COLUMNS))
    one_by_one = b"".join(replace(first, column=i, tx_seq=first.tx_seq + i).encode() for i in range(COLUMNS))
    assert encode_row_headers(first) == one_by_one


def test_repairs_are_numbered_and_the_last_one_may_say_that_it_is() -> None:
    first = Header(MessageType.PARITY, 1, 2, Flag.REPAIR, slab=3, tx_seq=0xFFFFFFFF, tx_time=9, nack_ms=2)
    wire = encode_repair_headers(first, [(128, 4), (0, 5)], is_end=True)
    one, two = decode_header(wire[:HEADER_BYTES]), decode_header(wire[HEADER_BYTES:])
    assert (one.type, one.row, one.column, one.flags, one.tx_seq) == (
        MessageType.PARITY,
        128,
        4,
        Flag.REPAIR,
        2**32 - 1,
    )
    assert (two.type, two.row, two.column, two.tx_seq) == (MessageType.DATA, 0, 5, 0)
    assert two.flags == Flag.REPAIR | Flag.END_OF_SLAB
    assert encode_repair_headers(first, [(128, 4)], is_end=False) == wire[:HEADER_BYTES]
