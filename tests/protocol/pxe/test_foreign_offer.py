# SPDX-License-Identifier: Apache-2.0
"""Which answers of other servers stand in the way of a network boot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import BOOT_REPLY, BOOT_REQUEST, Message, MessageType, decode
from dpd.protocol.dhcp.options import Option, pack_address
from dpd.protocol.pxe.foreign_offer import MAX_SHOWN, Flag, read_foreign_offer

OWN = {"10.0.0.1"}
MAC = bytes.fromhex("525400000001")
CLASS = (int(Option.VENDOR_CLASS), b"PXEClient")


def answer(
    *options: tuple[int, bytes],
    kind: int = MessageType.OFFER,
    yiaddr: str = "10.0.0.50",
    siaddr: str = "0.0.0.0",
    file: bytes = b"",
    server: str = "10.0.0.2",
    op: int = BOOT_REPLY,
) -> Message:
    standing = ((int(Option.MESSAGE_TYPE), bytes((kind,))), (int(Option.SERVER_ID), pack_address(server)))
    return Message(op, 7, MAC, standing + options, yiaddr=yiaddr, siaddr=siaddr, file=file)


def flags(message: Message) -> list[str]:
    offer = read_foreign_offer(message, "10.0.0.2", OWN)
    return [] if offer is None else [flag.value for flag in offer.flags]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (answer(), ["lease"]),
        (answer(siaddr="10.0.0.2"), ["lease"]),
        (answer(CLASS), ["lease", "option60"]),
        (answer(file=b"pxelinux.0"), ["lease", "file"]),
        (answer((int(Option.BOOT_FILE), b"old.efi\0")), ["lease", "file"]),
        (answer(siaddr="10.0.0.9"), ["lease", "next_server"]),
        (answer(CLASS, siaddr="10.0.0.9", file=b"x"), ["lease", "option60", "file", "next_server"]),
        (answer(CLASS, yiaddr="0.0.0.0", file=b"x"), ["proxy"]),
        (answer(yiaddr="0.0.0.0"), []),
        (answer(kind=MessageType.ACK), ["lease"]),
        (answer(kind=MessageType.NAK), []),
        (answer(op=BOOT_REQUEST), []),
        (answer(CLASS, server="10.0.0.1"), []),
    ],
)
def test_what_stands_in_an_answer(message: Message, expected: list[str]) -> None:
    assert flags(message) == expected


def test_a_lease_server_that_points_to_us_is_what_the_operator_wants() -> None:
    assert flags(answer(siaddr="10.0.0.1", file=b"ipxe.efi")) == ["lease"]
    assert flags(answer(CLASS, siaddr="10.0.0.1")) == ["lease"]
    assert flags(answer(CLASS, file=b"http://10.0.0.1:8080/boot/ipxe.efi")) == ["lease"]


def test_an_answer_tells_whom_and_what() -> None:
    offer = read_foreign_offer(answer(file=b"a\x1b[31m\xff" + b"x" * 100), "10.0.0.2", OWN)
    assert offer is not None
    assert (offer.mac, offer.xid, offer.server) == ("52:54:00:00:00:01", 7, "10.0.0.2")
    assert offer.loader.startswith("a?[31m\xff")
    assert len(offer.loader) == MAX_SHOWN
    assert not offer.is_harmless


def test_without_option_54_the_sender_is_the_server() -> None:
    bare = Message(BOOT_REPLY, 7, MAC, ((int(Option.MESSAGE_TYPE), b"\2"),), yiaddr="10.0.0.50")
    offer = read_foreign_offer(bare, "10.0.0.3", OWN)
    assert offer is not None
    assert offer.server == "10.0.0.3"
    assert offer.flags == (Flag.LEASE,)
    assert offer.is_harmless


@given(st.binary(max_size=600))
def test_any_bytes_are_judged_or_malformed(noise: bytes) -> None:
    whole = bytes(236) + b"\x63\x82\x53\x63" + noise
    try:
        message = decode(b"\2\1\6" + whole[3:])
    except MalformedMessage:
        return
    offer = read_foreign_offer(message, "10.0.0.2", OWN)
    assert offer is None or offer.flags
