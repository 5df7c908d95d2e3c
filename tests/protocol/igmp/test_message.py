# SPDX-License-Identifier: Apache-2.0
"""The codec against scapy's, a kernel's own packets, round trips and arbitrary bytes."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.igmp import IGMP_MQ, IGMPv2_LG, IGMPv3_MQ, IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import IP, IPOption_Router_Alert

from dpd.errors import MalformedMessage
from dpd.protocol.igmp.message import (
    ALL_SYSTEMS,
    EVERY_GROUP,
    ROUTER_ALERT,
    Leave,
    Message,
    Query,
    Record,
    RecordType,
    Report,
    checksum,
    decode,
    decode_float,
    decode_packet,
    encode_float,
)

GROUP = "239.192.0.7"
# A Linux 6.18 bridge's own general query and its report of 224.0.0.106 (RFC 4286), as a packet socket showed them.
BRIDGE_QUERY = bytes.fromhex("46c00024000040000102f8d50a4d00f0e0000001940400001164ec1e00000000027d0000")
BRIDGE_REPORT = bytes.fromhex("46c00028000040000102f8bc0a4d00f0e0000016940400002200f9930000000104000000e000006a")

addresses = st.integers(0, 2**32 - 1).map(lambda n: str(IPv4Address(n)))
groups = st.integers(0xE0000000, 0xEFFFFFFF).map(lambda n: str(IPv4Address(n)))
exact = st.integers(0, 255).map(decode_float)  # numbers that the float byte says exactly
queries = st.builds(
    Query,
    group=st.one_of(st.just(EVERY_GROUP), groups),
    max_response_s=exact.map(lambda tenths: tenths / 10),
    version=st.just(3),
    robustness=st.integers(0, 7),
    interval_s=exact,
    suppress=st.booleans(),
    sources=st.lists(addresses, max_size=20).map(tuple),
)
records = st.builds(Record, st.sampled_from(RecordType), groups, st.lists(addresses, max_size=5).map(tuple))
reports = st.builds(Report, st.just(3), st.lists(records, max_size=10).map(tuple))


@given(st.one_of(queries, reports, groups.map(Leave)))
def test_what_is_encoded_is_decoded(message: Query | Report | Leave) -> None:
    assert decode(message.encode()) == message
    assert checksum(message.encode()) == 0


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_message_or_malformed(data: bytes, mend: bool) -> None:
    if mend and len(data) >= 4:  # a right checksum leads further in
        data = data[:2] + bytes(2) + data[4:]
        data = data[:2] + checksum(data).to_bytes(2, "big") + data[4:]
    for read in (decode, decode_packet):
        with suppress(MalformedMessage):
            read(data)


class TestAgainstScapy:
    def test_our_version_3_query(self) -> None:
        ours = Query(GROUP, 10.0, robustness=2, interval_s=125, sources=("10.0.0.1",)).encode()
        theirs = IGMPv3_MQ(ours)
        assert (theirs.type, theirs.mrcode, theirs.gaddr, theirs.qrv, theirs.qqic) == (0x11, 100, GROUP, 2, 125)
        assert (theirs.numsrc, theirs.srcaddrs) == (1, ["10.0.0.1"])
        assert bytes(IGMPv3_MQ(mrcode=100, gaddr=GROUP, qrv=2, qqic=125, srcaddrs=["10.0.0.1"])) == ours

    def test_our_version_2_query(self) -> None:
        assert Query(version=2).encode() == bytes(IGMP_MQ(mrcode=100))

    def test_their_report(self) -> None:
        group_records = [
            IGMPv3_MR_Group(rtype=4, maddr=GROUP),
            IGMPv3_MR_Group(rtype=3, maddr="239.1.2.3", srcaddrs=["10.0.0.1", "10.0.0.2"]),
        ]
        packet = bytes(IGMPv3_MR(records=group_records))
        assert decode(packet) == Report(
            3,
            (
                Record(RecordType.TO_EXCLUDE, GROUP),
                Record(RecordType.TO_INCLUDE, "239.1.2.3", ("10.0.0.1", "10.0.0.2")),
            ),
        )
        assert Report(3, decode(packet).records).encode() == packet  # type: ignore[union-attr]

    def test_their_whole_packet(self) -> None:
        header = IP(src="10.0.0.9", dst=ALL_SYSTEMS, ttl=1, proto=2, options=[IPOption_Router_Alert()])
        packet = decode_packet(bytes(header / IGMPv2_LG(gaddr=GROUP)))
        assert (packet.message, packet.source, packet.destination) == (Leave(GROUP), "10.0.0.9", ALL_SYSTEMS)
        assert (packet.ttl, packet.has_router_alert) == (1, True)
        assert bytes(header)[20:24] == ROUTER_ALERT


def test_a_query_of_a_kernel_bridge() -> None:
    packet = decode_packet(BRIDGE_QUERY)
    assert packet.source == "10.77.0.240"
    assert (packet.ttl, packet.has_router_alert) == (1, True)
    assert packet.message == Query(EVERY_GROUP, 10.0, 3, robustness=2, interval_s=125)


def test_a_report_of_a_kernel() -> None:
    assert decode_packet(BRIDGE_REPORT).message == Report(3, (Record(RecordType.TO_EXCLUDE, "224.0.0.106"),))


@pytest.mark.parametrize(
    ("data", "version", "response_s"),
    [(bytes((0x11, 0)), 1, 10.0), (bytes((0x11, 100)), 2, 10.0), (bytes((0x11, 5)), 2, 0.5)],
)
def test_a_short_query_tells_its_version_by_the_second_byte(data: bytes, version: int, response_s: float) -> None:
    message = data + bytes(6)
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    assert decode(message) == Query(EVERY_GROUP, response_s, version)


def test_old_reports_name_one_group() -> None:
    for version in (1, 2):
        report = Report(version, (Record(RecordType.TO_EXCLUDE, GROUP),))
        assert decode(report.encode()) == report


def _sealed(data: bytes) -> bytes:
    return data[:2] + checksum(data).to_bytes(2, "big") + data[4:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x11\0\0", "length"),
        (bytes((0x11, 100, 1, 2, 0, 0, 0, 0)), "checksum"),
        (_sealed(bytes((0x99, 0, 0, 0, 0, 0, 0, 0))), "type"),
        (_sealed(bytes((0x11, 100, 0, 0, 10, 0, 0, 1))), "group"),
        (_sealed(bytes((0x17, 0, 0, 0, 10, 0, 0, 1))), "group"),
        (_sealed(bytes((0x11, 100, 0, 0)) + bytes(6)), "length"),
        (_sealed(bytes((0x11, 100, 0, 0)) + bytes(4) + bytes((2, 125, 0, 3)) + bytes(8)), "sources"),
        (_sealed(bytes((0x22, 0, 0, 0, 0, 0, 0, 2)) + bytes((4, 0, 0, 0, 239, 1, 1, 1))), "records"),
        (_sealed(bytes((0x22, 0, 0, 0, 0, 0, 0, 1)) + bytes((4, 0, 0, 9, 239, 1, 1, 1))), "records"),
    ],
)
def test_what_is_wrong_has_a_name(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (slice(0, 1), b"\x66", "ip_header"),
        (slice(2, 4), struct.pack("!H", 99), "ip_header"),
        (slice(0, 1), b"\x4f", "ip_header"),
        (slice(9, 10), b"\x11", "ip_protocol"),
        (slice(6, 8), b"\x20\0", "fragment"),
    ],
)
def test_a_wrong_ip_header_has_a_name(at: slice, value: bytes, reason: str) -> None:
    packet = bytearray(BRIDGE_QUERY)
    packet[at] = value
    with pytest.raises(MalformedMessage) as caught:
        decode_packet(packet)
    assert caught.value.reason == reason


def test_unknown_record_types_are_passed_over() -> None:
    data = _sealed(bytes((0x22, 0, 0, 0, 0, 0, 0, 2, 77, 0, 0, 0, 239, 1, 1, 1, 4, 0, 0, 0, 239, 1, 1, 2)))
    assert decode(data) == Report(3, (Record(RecordType.TO_EXCLUDE, "239.1.1.2"),))


@pytest.mark.parametrize(
    ("options", "has"), [(b"\x01\x94\x04\0\0\0\0\0", True), (b"\x07\x04\0\0", False), (b"\x07\0\0\0", False)]
)
def test_the_router_alert_is_found_among_options(options: bytes, has: bool) -> None:
    message: Message = Leave(GROUP)
    header = bytearray(BRIDGE_QUERY[:20]) + options
    header[0] = 0x40 | len(header) // 4
    header[2:4] = struct.pack("!H", len(header) + 8)
    assert decode_packet(bytes(header) + message.encode()).has_router_alert is has


@pytest.mark.parametrize(
    ("value", "code"), [(0, 0), (127, 127), (128, 0x80), (129, 0x80), (1000, 0xAF), (31744, 0xFF), (99999, 0xFF)]
)
def test_numbers_too_large_for_a_byte_are_floats(value: Any, code: int) -> None:
    assert encode_float(value) == code
    assert decode_float(code) <= value


@given(st.integers(0, 255))
def test_every_code_stands_for_itself(code: int) -> None:
    assert encode_float(decode_float(code)) == code
