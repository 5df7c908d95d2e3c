# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 messages (RFC 8415): bytes to a frozen Packet or MalformedMessage, and back.

A Packet is the client's or server's message and the relays around it, the one nearest to the server first. Options stay
in the order of the wire as (code, bytes). What RFC 8415 allows once stands once: a message with two client identifiers
would be read one way here and another way by the lease server.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp6.options import Option, read_pairs, write_pairs

HEADER_BYTES = 4  # type and transaction id
RELAY_HEADER_BYTES = 34  # type, hop count, link address, peer address
MAX_BYTES = 4096  # no network-boot client comes near; bounds the work that one datagram can ask for
HOP_COUNT_LIMIT = 8  # RFC 8415 section 7.6
MAX_TRANSACTION_ID = 0xFFFFFF

_RELAY = struct.Struct("!BB16s16s")
# Options that may stand once (RFC 8415 section 24, RFC 5970, RFC 6939), with the lengths that they may have.
_LENGTHS: dict[int, range] = {
    Option.CLIENT_ID: range(3, 131),  # RFC 8415 section 11.1: a type and at most 128 octets
    Option.SERVER_ID: range(3, 131),
    Option.OPTION_REQUEST: range(0, MAX_BYTES, 2),
    Option.PREFERENCE: range(1, 2),
    Option.ELAPSED_TIME: range(2, 3),
    Option.RELAY_MESSAGE: range(HEADER_BYTES, MAX_BYTES),
    Option.STATUS_CODE: range(2, MAX_BYTES),
    Option.RAPID_COMMIT: range(1),
    Option.USER_CLASS: range(2, MAX_BYTES),
    Option.INTERFACE_ID: range(MAX_BYTES),
    Option.REMOTE_ID: range(4, MAX_BYTES),
    Option.BOOT_FILE_URL: range(1, MAX_BYTES),
    Option.BOOT_FILE_PARAMETERS: range(MAX_BYTES),
    Option.CLIENT_ARCH: range(2, MAX_BYTES, 2),
    Option.CLIENT_INTERFACE: range(3, 4),
    Option.CLIENT_LINK_LAYER: range(3, MAX_BYTES),
}

Options = tuple[tuple[int, bytes], ...]


class MessageType(IntEnum):
    """RFC 8415 section 7.3."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORWARD = 12
    RELAY_REPLY = 13


_RELAYED = (MessageType.RELAY_FORWARD, MessageType.RELAY_REPLY)


@dataclass(frozen=True, slots=True)
class Message:
    """What a client and a server say to each other. `type` is no MessageType, since a peer may send any number."""

    type: int
    transaction_id: int
    options: Options = ()

    def option(self, code: int) -> bytes | None:
        """The value of an option, the first where it may stand more than once; None where it is absent."""
        return _find(self.options, code)


@dataclass(frozen=True, slots=True)
class Relay:
    """One relay around a message, without its Relay Message option (9)."""

    type: int
    hop_count: int
    link_address: str
    peer_address: str
    options: Options = ()

    def option(self, code: int) -> bytes | None:
        """The value of an option; None where it is absent."""
        return _find(self.options, code)


@dataclass(frozen=True, slots=True)
class Packet:
    """A message inside its relays, the outermost first; no relay where the client was heard directly."""

    message: Message
    relays: tuple[Relay, ...] = ()


def _find(options: Options, code: int) -> bytes | None:
    return next((value for known, value in options if known == code), None)


def decode(data: bytes) -> Packet:
    """Bytes to a Packet. Raises MalformedMessage with a reason out of a closed set."""
    if len(data) > MAX_BYTES:
        raise MalformedMessage("too_long", f"{len(data)} bytes, expected at most {MAX_BYTES}")
    relays: list[Relay] = []
    while True:
        if len(data) < HEADER_BYTES:
            raise MalformedMessage("too_short", f"{len(data)} bytes, expected at least {HEADER_BYTES}")
        if data[0] not in _RELAYED:
            return Packet(_read_message(data), tuple(relays))
        if len(relays) == HOP_COUNT_LIMIT:
            raise MalformedMessage("hop_limit", f"more than {HOP_COUNT_LIMIT} relays inside each other")
        relay, data = _read_relay(data)
        relays.append(relay)


def _read_message(data: bytes) -> Message:
    return Message(data[0], int.from_bytes(data[1:4], "big"), _read_options(data, HEADER_BYTES))


def _read_relay(data: bytes) -> tuple[Relay, bytes]:
    """The outermost relay, and the bytes that it relays."""
    if len(data) < RELAY_HEADER_BYTES:
        raise MalformedMessage("too_short", f"{len(data)} bytes, expected at least {RELAY_HEADER_BYTES} of a relay")
    kind, hop_count, link, peer = _RELAY.unpack_from(data)
    if hop_count > HOP_COUNT_LIMIT:
        raise MalformedMessage("hop_limit", f"hop count {hop_count}, expected at most {HOP_COUNT_LIMIT}")
    options = _read_options(data, RELAY_HEADER_BYTES)
    inner = _find(options, Option.RELAY_MESSAGE)
    if inner is None:
        raise MalformedMessage("no_relay_message", "a relay's message without option 9")
    others = tuple(pair for pair in options if pair[0] != Option.RELAY_MESSAGE)
    return Relay(kind, hop_count, _text(link), _text(peer), others), inner


def _read_options(data: bytes, position: int) -> Options:
    found: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    for code, value in read_pairs(data[position:]):
        lengths = _LENGTHS.get(code)
        if lengths is not None and len(value) not in lengths:
            raise MalformedMessage("option_length", f"option {code} has {len(value)} bytes")
        if lengths is not None and code in seen:
            raise MalformedMessage("option_repeated", f"option {code} stands twice")
        seen.add(code)
        found.append((code, value))
    return tuple(found)


def encode(packet: Packet) -> bytes:
    """A Packet to bytes. Raises MisuseError for what cannot stand on the wire."""
    message = packet.message
    if not 0 <= message.transaction_id <= MAX_TRANSACTION_ID:
        raise MisuseError(f"transaction id {message.transaction_id:#x}, expected 24 bits")
    data = bytes((message.type,)) + message.transaction_id.to_bytes(3, "big") + write_pairs(message.options)
    for relay in reversed(packet.relays):
        head = _RELAY.pack(relay.type, relay.hop_count, _octets(relay.link_address), _octets(relay.peer_address))
        data = head + write_pairs((*relay.options, (int(Option.RELAY_MESSAGE), data)))
    return data


def _text(octets: bytes) -> str:
    return str(ipaddress.IPv6Address(octets))


def _octets(address: str) -> bytes:
    return ipaddress.IPv6Address(address.partition("%")[0]).packed
