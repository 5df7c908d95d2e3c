# SPDX-License-Identifier: Apache-2.0
"""The DHCPv6 frame: captures, RFC rules, arbitrary bytes, and scapy as a second opinion."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.dhcp6 import DHCP6_RelayForward, DHCP6OptClientId, DHCP6OptIfaceId, DHCP6OptRelayMsg
from scapy.layers.inet6 import UDP, IPv6
from tests.data.dhcp6_vectors import VECTORS

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp6.message import (
    HOP_COUNT_LIMIT,
    MAX_BYTES,
    Message,
    MessageType,
    Packet,
    Relay,
    decode,
    encode,
)
from dpd.protocol.dhcp6.options import Option, decode_codes, decode_duid

SOLICIT = VECTORS["edk2-pxe-solicit"]
CHECKED = {1, 2, 6, 7, 8, 9, 13, 14, 15, 18, 37, 59, 60, 61, 62, 79}  # codes whose length or number is checked

free_options = st.lists(
    st.tuples(st.integers(0, 65535).filter(lambda code: code not in CHECKED), st.binary(max_size=80)), max_size=8
).map(tuple)
addresses = st.ip_addresses(v=6).map(str)
messages = st.builds(
    Message,
    type=st.integers(0, 255).filter(lambda kind: kind not in (12, 13)),
    transaction_id=st.integers(0, 0xFFFFFF),
    options=free_options,
)
relays = st.builds(
    Relay,
    type=st.sampled_from([12, 13]),
    hop_count=st.integers(0, HOP_COUNT_LIMIT),
    link_address=addresses,
    peer_address=addresses,
    options=free_options.map(lambda options: options[:2]),
)
packets = st.builds(Packet, message=messages, relays=st.lists(relays, max_size=HOP_COUNT_LIMIT).map(tuple))


@given(packets)
def test_what_is_encoded_decodes_to_itself(packet: Packet) -> None:
    assert decode(encode(packet)) == packet


@pytest.mark.parametrize("name", VECTORS)
def test_captures_come_back_byte_for_byte(name: str) -> None:
    assert encode(decode(VECTORS[name])) == VECTORS[name]


def test_the_solicit_of_firmware_is_read() -> None:
    packet = decode(SOLICIT)
    assert packet.relays == ()
    assert packet.message.type == MessageType.SOLICIT
    assert packet.message.transaction_id == 0x794949
    asked = packet.message.option(Option.OPTION_REQUEST)
    assert asked is not None
    assert decode_codes(asked) == (59, 60, 23, 16)
    assert packet.message.option(Option.BOOT_FILE_URL) is None


REASONS = {
    "too_short",
    "too_long",
    "hop_limit",
    "no_relay_message",
    "option_truncated",
    "option_length",
    "option_repeated",
}


@given(st.one_of(st.binary(max_size=500), st.binary(max_size=200).map(lambda tail: SOLICIT + tail)))
@example(b"\x0c" + bytes(33))
@example(SOLICIT + SOLICIT[4:])
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        packet = decode(data)
    except MalformedMessage as error:
        assert error.reason in REASONS  # noqa: PT017
    else:
        assert decode(encode(packet)) == packet


def option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def relayed(inner: bytes, hop_count: int = 0) -> bytes:
    return bytes((12, hop_count)) + bytes(32) + option(Option.RELAY_MESSAGE, inner)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too_short"),
        (b"\x01\0\0", "too_short"),
        (b"\x01" + bytes(MAX_BYTES), "too_long"),
        (b"\x01\0\0\0\0\x08\0", "option_truncated"),
        (b"\x01\0\0\0" + b"\0\x08\0\x03\0\0", "option_truncated"),
        (b"\x01\0\0\0" + option(Option.ELAPSED_TIME, b"\0"), "option_length"),
        (b"\x01\0\0\0" + option(Option.CLIENT_ARCH, b"\0\x07\0"), "option_length"),
        (b"\x01\0\0\0" + option(Option.CLIENT_ID, b"\0\x04" + bytes(129)), "option_length"),
        (b"\x01\0\0\0" + option(Option.CLIENT_ID, b"\0\x04a") * 2, "option_repeated"),
        (b"\x0c" + bytes(20), "too_short"),
        (b"\x0c" + bytes(33), "no_relay_message"),
        (b"\x0c" + bytes(33) + option(Option.RELAY_MESSAGE, SOLICIT) * 2, "option_repeated"),
        (b"\x0c" + bytes(33) + option(Option.RELAY_MESSAGE, b"\x01\0"), "option_length"),
        (relayed(SOLICIT, HOP_COUNT_LIMIT + 1), "hop_limit"),
    ],
)
def test_what_is_wrong_has_a_name(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(data)
    assert caught.value.reason == reason


def test_vendor_options_of_two_enterprises_may_stand_side_by_side() -> None:
    data = SOLICIT + option(Option.VENDOR_OPTIONS, b"\0\0\0\1") + option(Option.VENDOR_OPTIONS, b"\0\0\0\2")
    assert decode(data).message.option(Option.VENDOR_OPTIONS) == b"\0\0\0\1"


def test_relays_nest_up_to_the_hop_limit_and_no_further() -> None:
    data = SOLICIT
    for hop_count in range(HOP_COUNT_LIMIT):
        data = relayed(data, hop_count)
    packet = decode(data)
    assert [relay.hop_count for relay in packet.relays] == list(reversed(range(HOP_COUNT_LIMIT)))
    with pytest.raises(MalformedMessage, match="hop_limit"):
        decode(relayed(data))


def test_scapy_reads_a_relayed_message_as_we_do() -> None:
    relay = Relay(12, 1, "fd00::1", "fe80::2", ((int(Option.INTERFACE_ID), b"port7"),))
    theirs = DHCP6_RelayForward(encode(Packet(decode(SOLICIT).message, (relay,))))
    assert (theirs.hopcount, theirs.linkaddr, theirs.peeraddr) == (1, "fd00::1", "fe80::2")
    assert theirs[DHCP6OptIfaceId].ifaceid == b"port7"
    assert bytes(theirs[DHCP6OptClientId].duid)[2:].hex() == "616c787000620040800052540077000b"


def test_what_scapy_relays_is_read() -> None:
    inner = IPv6() / UDP(sport=546, dport=547) / SOLICIT
    theirs = DHCP6_RelayForward(linkaddr="fd00::1", peeraddr="fe80::2", hopcount=1) / DHCP6OptIfaceId(ifaceid=b"x")
    packet = decode(bytes(theirs / DHCP6OptRelayMsg(message=inner[UDP].payload)))
    assert packet.message == decode(SOLICIT).message
    assert packet.relays == (Relay(12, 1, "fd00::1", "fe80::2", ((18, b"x"),)),)
    duid = packet.message.option(Option.CLIENT_ID)
    assert duid is not None
    assert decode_duid(duid).kind == 4


@pytest.mark.parametrize("message", [Message(1, 1 << 24), Message(1, 0, ((59, bytes(1 << 16)),))])
def test_what_cannot_stand_on_the_wire_is_our_fault(message: Message) -> None:
    with pytest.raises(MisuseError):
        encode(Packet(message))
