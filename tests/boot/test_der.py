# SPDX-License-Identifier: Apache-2.0
"""DER: sound elements are taken apart, everything else is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.boot.der import Tag, read_element
from dpd.errors import MalformedImage


def encode(tag: int, content: bytes) -> bytes:
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    length = bytes((len(content),)) if len(content) < 0x80 else bytes((0x80 | len(octets),)) + octets
    return bytes((tag,)) + length + content


@given(st.binary(max_size=700), st.binary(max_size=20))
def test_an_element_is_read_back_with_what_follows(content: bytes, rest: bytes) -> None:
    element, left = read_element(encode(Tag.OCTET_STRING, content) + rest)
    assert (element.tag, element.content, left) == (Tag.OCTET_STRING, content, rest)
    assert element.encoded == encode(Tag.OCTET_STRING, content)


def test_children_come_in_their_order() -> None:
    outer = encode(Tag.SEQUENCE, encode(Tag.INTEGER, b"\1") + encode(Tag.OCTET_STRING, bytes(300)))
    children = read_element(outer)[0].expect(Tag.SEQUENCE).children()
    assert [(child.tag, len(child.content)) for child in children] == [(Tag.INTEGER, 1), (Tag.OCTET_STRING, 300)]


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x30",
        b"\x30\x05abc",
        b"\x30\x80\0\0",  # indefinite length, which is BER
        b"\x30\x81\x05abcde",  # 5 in two octets
        b"\x30\x82\x00\x90" + bytes(0x90),
        b"\x30\x85\0\0\0\0\1a",
        b"\x30\x84\xff",
        b"\x1f\x20\x01a",  # a high tag number
    ],
    ids=lambda encoded: encoded[:4].hex() or "nothing",
)
def test_what_is_no_der_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedImage) as caught:
        read_element(encoded)
    assert caught.value.reason == "bad_der"


def test_another_type_than_expected_is_refused() -> None:
    with pytest.raises(MalformedImage, match="expected SEQUENCE, found tag 0x02"):
        read_element(encode(Tag.INTEGER, b"\1"))[0].expect(Tag.SEQUENCE)
