# SPDX-License-Identifier: Apache-2.0
"""IGMP messages, versions 1 to 3, and the IPv4 packets that carry them (RFC 1112, 2236, 3376).

A raw socket hands over whole IPv4 packets; `decode_packet` reads header and message. What a querier or an observer need
not know of a report (its sources) is checked for length and left aside.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import TypeAlias

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Buffer

PROTOCOL_NUMBER = 2  # IPv4
ALL_SYSTEMS = "224.0.0.1"
ALL_ROUTERS = "224.0.0.2"  # where version 2 says that it leaves
ALL_V3_ROUTERS = "224.0.0.22"  # RFC 3376, 4.2.14
EVERY_GROUP = "0.0.0.0"  # a general query's group
ROUTER_ALERT = bytes((0x94, 4, 0, 0))  # RFC 2113
PRECEDENCE = 0xC0  # internetwork control; RFC 3376, 4

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_SHORT = struct.Struct("!BBH4s")  # type, max response code, checksum, group
_QUERY_V3 = struct.Struct("!BBH4sBBH")  # … S and QRV, QQIC, number of sources
_REPORT_V3 = struct.Struct("!BBHHH")
_RECORD = struct.Struct("!BBH4s")


class MessageType(IntEnum):
    """The first byte."""

    QUERY = 0x11
    REPORT_V1 = 0x12
    REPORT_V2 = 0x16
    LEAVE = 0x17
    REPORT_V3 = 0x22


class RecordType(IntEnum):
    """What a group record of a version 3 report says; RFC 3376, 4.2.12."""

    IS_INCLUDE = 1
    IS_EXCLUDE = 2
    TO_INCLUDE = 3
    TO_EXCLUDE = 4
    ALLOW = 5
    BLOCK = 6


@dataclass(frozen=True, slots=True)
class Query:
    """Who is in `group`? EVERY_GROUP asks for all. `version` 3 alone carries robustness and interval."""

    group: str = EVERY_GROUP
    max_response_s: float = 10.0
    version: int = 3
    robustness: int = 0
    interval_s: int = 0
    suppress: bool = False
    sources: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The message with its checksum; version 1 has no response time."""
        group = IPv4Address(self.group).packed
        tenths = round(self.max_response_s * 10)
        if self.version < 3:
            code = min(tenths, 255) if self.version == 2 else 0
            return _with_checksum(_SHORT.pack(MessageType.QUERY, code, 0, group))
        flags = self.suppress << 3 | (self.robustness if self.robustness < 8 else 0)
        fixed = (MessageType.QUERY, encode_float(tenths), 0, group, flags, encode_float(self.interval_s))
        sources = b"".join(IPv4Address(source).packed for source in self.sources)
        return _with_checksum(_QUERY_V3.pack(*fixed, len(self.sources)) + sources)


@dataclass(frozen=True, slots=True)
class Record:
    """What a version 3 report says of one group."""

    type: RecordType
    group: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Groups that a host is in, or whose membership changed; versions 1 and 2 name one, as TO_EXCLUDE."""

    version: int
    records: tuple[Record, ...]

    def encode(self) -> bytes:
        if self.version == 3:
            return _with_checksum(
                _REPORT_V3.pack(MessageType.REPORT_V3, 0, 0, 0, len(self.records))
                + b"".join(_encode_record(record) for record in self.records)
            )
        kind = MessageType.REPORT_V2 if self.version == 2 else MessageType.REPORT_V1
        return _with_checksum(_SHORT.pack(kind, 0, 0, IPv4Address(self.records[0].group).packed))


@dataclass(frozen=True, slots=True)
class Leave:
    """A version 2 host left a group."""

    group: str

    def encode(self) -> bytes:
        return _with_checksum(_SHORT.pack(MessageType.LEAVE, 0, 0, IPv4Address(self.group).packed))


Message: TypeAlias = Query | Report | Leave


@dataclass(frozen=True, slots=True)
class Packet:
    """An IGMP message and what its IPv4 header tells."""

    message: Message
    source: str
    destination: str
    ttl: int
    has_router_alert: bool


def decode_packet(packet: Buffer) -> Packet:
    """A whole IPv4 packet. Raises MalformedMessage."""
    data = bytes(packet)
    if len(data) < _IPV4.size or data[0] >> 4 != 4:
        raise MalformedMessage("ip_header", f"{len(data)} bytes are no IPv4 packet")
    fields = _IPV4.unpack_from(data)
    header, total = (fields[0] & 15) * 4, fields[2]
    if header < _IPV4.size or not header <= total <= len(data):
        raise MalformedMessage("ip_header", f"header of {header} and length {total} in {len(data)} bytes")
    if fields[6] != PROTOCOL_NUMBER:
        raise MalformedMessage("ip_protocol", f"{fields[6]}, expected {PROTOCOL_NUMBER}")
    if fields[4] & 0x3FFF:
        raise MalformedMessage("fragment", "an IGMP message is never a fragment")
    return Packet(
        message=decode(data[header:total]),
        source=_text(fields[8]),
        destination=_text(fields[9]),
        ttl=fields[5],
        has_router_alert=_has_router_alert(data[_IPV4.size : header]),
    )


def decode(data: bytes) -> Message:
    """An IGMP message. Raises MalformedMessage."""
    if len(data) < _SHORT.size:
        raise MalformedMessage("length", f"{len(data)} bytes, expected at least {_SHORT.size}")
    if checksum(data):
        raise MalformedMessage("checksum")
    match data[0]:
        case MessageType.QUERY:
            return _decode_query(data)
        case MessageType.REPORT_V1 | MessageType.REPORT_V2:
            version = 1 if data[0] == MessageType.REPORT_V1 else 2
            return Report(version, (Record(RecordType.TO_EXCLUDE, _group(data[4:8])),))
        case MessageType.LEAVE:
            return Leave(_group(data[4:8]))
        case MessageType.REPORT_V3:
            return _decode_report(data)
    raise MalformedMessage("type", f"0x{data[0]:02x}")


def _decode_query(data: bytes) -> Query:
    """RFC 3376, 7.1: the length and the second byte tell the version."""
    group = _text(data[4:8])
    if group != EVERY_GROUP:
        _group(data[4:8])
    if len(data) == _SHORT.size:
        version = 2 if data[1] else 1
        return Query(group, data[1] / 10 if data[1] else 10.0, version)
    if len(data) < _QUERY_V3.size:
        raise MalformedMessage("length", f"a query of {len(data)} bytes")
    _, code, _, _, flags, interval, count = _QUERY_V3.unpack_from(data)
    if len(data) < _QUERY_V3.size + 4 * count:
        raise MalformedMessage("sources", f"{count} sources in {len(data)} bytes")
    return Query(
        group=group,
        max_response_s=decode_float(code) / 10,
        version=3,
        robustness=flags & 7,
        interval_s=decode_float(interval),
        suppress=bool(flags & 8),
        sources=_addresses(data, _QUERY_V3.size, count),
    )


def _decode_report(data: bytes) -> Report:
    records = []
    at = _REPORT_V3.size
    for _ in range(_REPORT_V3.unpack_from(data)[4]):
        if len(data) < at + _RECORD.size:
            raise MalformedMessage("records", f"cut at byte {at}")
        kind, auxiliary, count, group = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + 4 * (count + auxiliary)
        if len(data) < end:
            raise MalformedMessage("records", f"cut at byte {at}")
        if kind in RecordType.__members__.values():  # RFC 3376, 4.2.12: others are silently passed over
            sources = _addresses(data, at + _RECORD.size, count)
            records.append(Record(RecordType(kind), _group(group), sources))
        at = end
    return Report(3, tuple(records))


def _encode_record(record: Record) -> bytes:
    sources = b"".join(IPv4Address(source).packed for source in record.sources)
    return _RECORD.pack(record.type, 0, len(record.sources), IPv4Address(record.group).packed) + sources


def _addresses(data: bytes, at: int, count: int) -> tuple[str, ...]:
    return tuple(_text(data[i : i + 4]) for i in range(at, at + 4 * count, 4))


def _group(packed: bytes) -> str:
    if packed[0] >> 4 != 14:
        raise MalformedMessage("group", f"{_text(packed)} is no multicast group")
    return _text(packed)


def _text(packed: bytes) -> str:
    return ".".join(map(str, packed))


def _has_router_alert(options: bytes) -> bool:
    at = 0
    while at < len(options) and options[at] != 0:  # 0 ends the list
        if options[at] == ROUTER_ALERT[0]:
            return True
        length = 1 if options[at] == 1 else options[at + 1] if at + 1 < len(options) else 0  # 1 is padding
        if length == 0:
            return False
        at += length
    return False


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 for a message that carries its own and is whole."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _with_checksum(message: bytes) -> bytes:
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def encode_float(value: int) -> int:
    """The byte of a number from 0 to 31744: itself below 128, else 1 | exponent (3) | mantissa (4); RFC 3376, 4.1.1.
    What the byte cannot say exactly becomes the next smaller number that it can."""
    if value < 128:
        return max(value, 0)
    for exponent in range(8):
        mantissa = value >> (exponent + 3)
        if mantissa < 32:
            return 0x80 | exponent << 4 | (mantissa & 15)
    return 0xFF


def decode_float(code: int) -> int:
    """The number that such a byte stands for."""
    return code if code < 128 else (code & 15 | 16) << ((code >> 4 & 7) + 3)
