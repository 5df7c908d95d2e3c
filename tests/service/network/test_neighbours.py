# SPDX-License-Identifier: Apache-2.0
"""The kernel's neighbour table; a whole network is asked in tests/interop/test_pxe_networks.py."""

from __future__ import annotations

import struct

import pytest

from dpd.service.network.neighbours import mac_at, read_attributes


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "not an address", "", "203.0.113.77", "fe80::1%no-such0", "fe80::1%999999"]
)
def test_who_is_not_on_a_link_of_ours_has_no_hardware_address(address: str) -> None:
    assert mac_at(address) == ""


def attribute(kind: int, content: bytes) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + bytes(-size % 4)


def test_attributes_are_padded_to_four_bytes() -> None:
    octets = attribute(2, bytes.fromhex("525400000001")) + attribute(1, bytes(4)) + attribute(0x8009, b"x")
    assert read_attributes(octets) == {2: bytes.fromhex("525400000001"), 1: bytes(4), 9: b"x"}


@pytest.mark.parametrize("cut", [b"\x03\0\x01\0", b"\x20\0\x01\0abc", b"\x08\0", b"\0\0\0\0"])
def test_what_is_cut_short_ends_the_list(cut: bytes) -> None:
    assert read_attributes(attribute(1, b"abcd") + cut) == {1: b"abcd"}
