# SPDX-License-Identifier: Apache-2.0
"""The codec of dpd-mc/1: round trips, arbitrary bytes, and the layout that other implementations rely on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    MAX_CONTROL_MEMBERS,
    MAX_ECHO_DELAY_US,
    MAX_FEEDBACK_BYTES,
    MAX_HELD_SLABS,
    MAX_NACK_SLABS,
    MAX_REPRESENTATIVES,
    Beat,
    Control,
    ControlCode,
    ControlReason,
    Flag,
    Header,
    Message,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
    decode_header,
    decode_message,
)

REASONS = {"too_short", "wrong_version", "unknown_type", "out_of_range", "wrong_length"}
U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))


def headers(kind: MessageType, rows: st.SearchStrategy[int]) -> st.SearchStrategy[Header]:
    return st.builds(
        Header, st.just(kind), U32, U16, U8, U32, rows, st.integers(0, COLUMNS - 1), U8, U32, U32, U16, U16
    )


ANY_ROW = st.integers(0, 254)
PAYLOAD = st.binary(min_size=SYMBOL_BYTES, max_size=SYMBOL_BYTES)
DEFICITS = st.builds(SlabDeficits, U32, st.binary(min_size=COLUMNS, max_size=COLUMNS))


@st.composite
def reports(draw: st.DrawFn) -> Report:
    slab_count = draw(st.integers(1, 5000))
    slabs = st.integers(0, slab_count - 1)
    return Report(
        header=draw(headers(MessageType.REPORT, ANY_ROW)),
        member=draw(U64),
        seen_seq=draw(U32),
        echo_time=draw(U32),
        echo_delay_us=draw(U16) * 64,
        free_slabs=draw(U16),
        tally=Tally(*(draw(U32) for _ in range(10))),
        held=tuple(draw(st.lists(slabs, max_size=MAX_HELD_SLABS))),
        window=draw(U32),
        slab_count=slab_count,
        verified=draw(st.integers(0, (1 << slab_count) - 1)),
    )


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Symbol, headers(MessageType.DATA, st.integers(0, 127)), PAYLOAD),
    st.builds(Symbol, headers(MessageType.PARITY, st.integers(128, 254)), PAYLOAD),
    st.builds(
        Beat,
        headers(MessageType.BEAT, ANY_ROW),
        U32,
        U16,
        U16,
        st.lists(U32, max_size=MAX_REPRESENTATIVES).map(tuple),
    ),
    st.builds(
        Control, headers(MessageType.CONTROL, ANY_ROW), U8, st.lists(U32, max_size=MAX_CONTROL_MEMBERS).map(tuple)
    ),
    st.builds(
        Ncf, headers(MessageType.NCF, ANY_ROW), st.lists(DEFICITS, min_size=1, max_size=MAX_NACK_SLABS).map(tuple)
    ),
    st.builds(
        Nack,
        headers(MessageType.NACK, ANY_ROW),
        U64,
        U32,
        st.lists(DEFICITS, min_size=1, max_size=MAX_NACK_SLABS).map(tuple),
    ),
    reports(),
)


def encode(message: Message) -> bytes:
    return message.header.encode() + message.payload if isinstance(message, Symbol) else message.encode()


def attempt(datagram: bytes | bytearray) -> tuple[Message | None, str]:
    """(message, "") or (None, reason)."""
    try:
        return decode_message(datagram), ""
    except MalformedMessage as error:
        return None, error.reason


@given(MESSAGES)
def test_what_is_encoded_decodes_to_itself(message: Message) -> None:
    assert decode_message(encode(message)) == message


@given(st.binary(max_size=200) | st.binary(min_size=DATAGRAM_BYTES, max_size=DATAGRAM_BYTES))
def test_any_bytes_are_a_message_or_malformed(datagram: bytes) -> None:
    message, reason = attempt(datagram)
    assert (message is None) == (reason in REASONS)
    if message is not None:
        assert encode(message)[:HEADER_BYTES] == datagram[:HEADER_BYTES]


@given(MESSAGES, st.data())
def test_a_message_cut_short_or_too_long_is_malformed(message: Message, data: st.DataObject) -> None:
    wire = encode(message)
    cut = data.draw(st.integers(0, len(wire) - 1))
    for wrong in (wire[:cut], wire + b"\0"):
        with pytest.raises(MalformedMessage):
            decode_message(wrong)


@given(MESSAGES, st.data())
def test_a_flipped_bit_never_breaks_the_decoder(message: Message, data: st.DataObject) -> None:
    wire = bytearray(encode(message))
    bit = data.draw(st.integers(0, 8 * min(len(wire), 128) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    message_after, reason = attempt(wire)
    assert (message_after is None) == (reason in REASONS)


def test_the_header_lies_on_the_wire_as_documented() -> None:
    header = Header(
        MessageType.PARITY,
        session=0x01020304,
        epoch=0x0506,
        flags=Flag.REPAIR | Flag.END_OF_SLAB,
        slab=0x0708090A,
        row=200,
        column=31,
        speed_class=1,
        tx_seq=0x0B0C0D0E,
        tx_time=0x0F101112,
        promised_rows=0x1314,
        nack_ms=0x1516,
    )
    wire = bytes.fromhex("12 03 0506 01020304 0708090a 00c8 1f 01 0b0c0d0e 0f101112 1314 1516")
    assert header.encode() == wire
    assert decode_header(wire) == header


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({0: 0x21}, "wrong_version"),
        ({0: 0x1F}, "unknown_type"),
        ({13: 255}, "out_of_range"),
        ({12: 1}, "out_of_range"),
        ({14: COLUMNS}, "out_of_range"),
        ({13: 128}, "out_of_range"),  # a parity row in DATA
        ({0: 0x12}, "out_of_range"),  # a source row in PARITY
    ],
)
def test_a_symbol_out_of_its_range_is_refused(change: dict[int, int], reason: str) -> None:
    datagram = bytearray(Header(MessageType.DATA, 1, 1).encode() + bytes(SYMBOL_BYTES))
    for position, value in change.items():
        datagram[position] = value
    with pytest.raises(MalformedMessage) as caught:
        decode_message(datagram)
    assert caught.value.reason == reason


REPORT = Report(Header(MessageType.REPORT, 1, 1), 9, 0, 0, 0, 16, Tally(), (), 0, 12, 0)


@pytest.mark.parametrize(
    "wrong", [replace(REPORT, held=(12,)), replace(REPORT, verified=1 << 12)], ids=["held", "verified"]
)
def test_a_report_of_a_slab_beyond_the_last_is_refused(wrong: Report) -> None:
    with pytest.raises(MalformedMessage, match="beyond the last of 12"):
        decode_message(wrong.encode())


def test_the_report_of_a_terabyte_is_still_one_datagram() -> None:
    slabs = (1 << 40) // 5_767_168
    assert len(replace(REPORT, slab_count=slabs).encode()) < MAX_FEEDBACK_BYTES


@given(st.sampled_from([Beat, Control]), st.binary(min_size=64, max_size=64))
def test_a_signature_covers_all_that_stands_before_it(kind: type[Beat] | type[Control], signature: bytes) -> None:
    signed: list[bytes] = []

    def sign(body: bytes) -> bytes:
        signed.append(body)
        return signature

    message = (
        Beat(Header(MessageType.BEAT, 1, 1), 2, 3, 4, (5, 6))
        if kind is Beat
        else Control(Header(MessageType.CONTROL, 1, 1, row=ControlCode.KICK), ControlReason.SLOW, (7, 8))
    )
    wire = message.encode(sign)
    assert wire == signed[0] + signature
    assert decode_message(wire) == message


def test_an_echo_too_old_to_tell_says_so() -> None:
    report = decode_message(replace(REPORT, echo_delay_us=60_000_000).encode())
    assert isinstance(report, Report)
    assert report.echo_delay_us == MAX_ECHO_DELAY_US
