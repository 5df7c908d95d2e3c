# SPDX-License-Identifier: Apache-2.0
"""The strict TFTP codec: vectors from the RFCs, round trips, and what is refused with which reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.tftp.packet import (
    MAX_BLKSIZE,
    REASONS,
    Ack,
    Data,
    Error,
    ErrorCode,
    Message,
    OptionAck,
    ReadRequest,
    WriteRequest,
    decode,
    encode,
)

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
NAMES = TEXT.map(str.lower)
OPTIONS = st.lists(st.tuples(NAMES, TEXT), max_size=4, unique_by=lambda option: option[0]).map(tuple)
NUMBER = st.integers(0, 65535)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(ReadRequest, TEXT, NAMES, OPTIONS),
    st.builds(WriteRequest, TEXT, NAMES, OPTIONS),
    st.builds(Data, NUMBER, st.binary(max_size=2000)),
    st.builds(Ack, NUMBER, st.none() | st.integers(0, 255)),
    st.builds(OptionAck, OPTIONS.filter(bool)),
    st.builds(Error, NUMBER, TEXT),
)

VECTORS = [
    (b"\0\1boot\\x64\\wdsmgfw.efi\0octet\0", ReadRequest("boot\\x64\\wdsmgfw.efi")),
    # RFC 7440 section 3, with the case that RFC 2347 tells to ignore.
    (b"\0\1f\0OCTET\0WindowSize\x0016\0", ReadRequest("f", "octet", (("windowsize", "16"),))),
    (b"\0\2f\0octet\0", WriteRequest("f")),
    (b"\0\3\0\1abc", Data(1, b"abc")),
    (b"\0\3\xff\xff", Data(65535, b"")),
    (b"\0\4\0\7", Ack(7)),
    (b"\0\4\0\7\x10", Ack(7, next_window=16)),  # bootmgr after msftwindow
    (b"\0\6blksize\x001456\0tsize\x009\0", OptionAck((("blksize", "1456"), ("tsize", "9")))),
    (b"\0\5\0\x08User aborted the transfer\0", Error(ErrorCode.OPTION_REFUSED, "User aborted the transfer")),
]


@pytest.mark.parametrize(("wire", "message"), VECTORS)
def test_vectors_in_both_directions(wire: bytes, message: Message) -> None:
    assert decode(wire) == message
    assert decode(encode(message)) == message


@given(MESSAGES)
def test_what_is_encoded_decodes_to_itself(message: Message) -> None:
    wire = encode(message)
    if isinstance(message, ReadRequest | WriteRequest) and len(wire) > 512:
        with pytest.raises(MalformedMessage, match="request_too_long"):
            decode(wire)
    else:
        assert decode(wire) == message


@given(
    st.binary(max_size=600)
    | st.builds(lambda op, rest: bytes([0, op]) + rest, st.integers(0, 7), st.binary(max_size=600))
)
def test_any_bytes_are_a_message_or_malformed_with_a_known_reason(wire: bytes) -> None:
    try:
        message = decode(wire)
    except MalformedMessage as error:
        reason = error.reason
    else:
        reason = REASONS[0]
        assert decode(encode(message)) == message
    assert reason in REASONS


BAD = [
    (b"", "too_short: 0 bytes, expected at least 4"),
    (b"\0\4\0", "too_short: 3 bytes, expected at least 4"),
    (b"\0\0\0\0", "opcode: 0, expected 1 to 6"),
    (b"\0\7\0\0", "opcode: 7, expected 1 to 6"),
    (b"\0\1f\0octet", "unterminated: the last string has no NUL"),
    (b"\0\1boot.efi\0", "unterminated: expected file name and mode, each ended by a NUL"),
    (b"\0\1\0octet\0", "no_filename: file name and mode must not be empty"),
    (b"\0\1f\0\0", "no_filename: file name and mode must not be empty"),
    # A NUL inside the name makes its rest the mode and shifts the options.
    (b"\0\1boot\0.efi\0octet\0", "options_unpaired: expected name and value for each option"),
    (b"\0\1f\0octet\0blksize\0", "options_unpaired: expected name and value for each option"),
    (b"\0\1f\0octet\0\x001\0", "options_unpaired: expected name and value for each option"),
    (b"\0\1f\0octet\0tsize\x000\0TSIZE\x000\0", "option_twice: expected each option once"),
    (b"\0\1\xc3\xbcber.efi\0octet\0", "not_ascii: expected printable ASCII"),
    (b"\0\1a\nb\0octet\0", "not_ascii: expected printable ASCII"),
    (b"\0\1" + b"a" * 600 + b"\0octet\0", "request_too_long: 609 bytes, expected at most 512"),
    (b"\0\4\0\1\0\0", "ack_length: 6 bytes, expected 4, or 5 with msftwindow"),
    (b"\0\3\0\1" + bytes(MAX_BLKSIZE + 1), "data_length: 65469 bytes, expected at most 65468"),
    (b"\0\5\0\1a\0b\0", "error_text: expected one text of at most 512 bytes, ended by a NUL"),
]


@pytest.mark.parametrize(("wire", "message"), BAD)
def test_bad_bytes_are_refused_by_name(wire: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(wire)
    assert str(caught.value) == message
    assert caught.value.reason in REASONS


def test_an_error_without_its_nul_or_in_another_language_still_ends_the_transfer() -> None:
    assert decode(b"\0\5\0\0Abbruch durch Ger\xe4t") == Error(0, "Abbruch durch Ger?t")


def test_a_nul_in_our_own_text_is_our_bug() -> None:
    with pytest.raises(MisuseError):
        encode(Error(0, "a\0b"))
