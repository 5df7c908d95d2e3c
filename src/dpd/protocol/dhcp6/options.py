# SPDX-License-Identifier: Apache-2.0
"""What stands inside the DHCPv6 options that network boot needs (RFC 8415, 5970, 6355, 6939, 4649).

The frame around them (code, length, relays) belongs to `message`. Every reader here takes the bytes of one option and
raises MalformedMessage where they cannot be what their specification says.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from dpd.errors import MalformedMessage, MisuseError

ETHERNET = 1  # hardware type of RFC 826
MAC_BYTES = 6
UUID_BYTES = 16
_ETHERNET = ETHERNET.to_bytes(2, "big")


class Option(IntEnum):
    """Option codes: RFC 8415 unless noted."""

    CLIENT_ID = 1
    SERVER_ID = 2
    IA_NA = 3
    IA_TA = 4
    IA_ADDRESS = 5
    OPTION_REQUEST = 6
    PREFERENCE = 7
    ELAPSED_TIME = 8
    RELAY_MESSAGE = 9
    STATUS_CODE = 13
    RAPID_COMMIT = 14
    USER_CLASS = 15
    VENDOR_CLASS = 16
    VENDOR_OPTIONS = 17
    INTERFACE_ID = 18
    REMOTE_ID = 37  # RFC 4649
    BOOT_FILE_URL = 59  # RFC 5970
    BOOT_FILE_PARAMETERS = 60  # RFC 5970
    CLIENT_ARCH = 61  # RFC 5970
    CLIENT_INTERFACE = 62  # RFC 5970
    CLIENT_LINK_LAYER = 79  # RFC 6939


class DuidKind(IntEnum):
    """RFC 8415 section 11, RFC 6355."""

    LINK_LAYER_TIME = 1
    ENTERPRISE = 2
    LINK_LAYER = 3
    UUID = 4


_BEFORE_ADDRESS: dict[int, int] = {DuidKind.LINK_LAYER_TIME: 6, DuidKind.LINK_LAYER: 2}  # octets of type and time


@dataclass(frozen=True, slots=True)
class Duid:
    """Who a client or server is. `kind` is no DuidKind, since new kinds may come; `content` is what follows it."""

    kind: int
    content: bytes

    @property
    def mac(self) -> str:
        """The Ethernet address inside, "" where there is none. It may be that of another card of the same machine."""
        skipped = _BEFORE_ADDRESS.get(self.kind, 0)
        if not skipped or len(self.content) != skipped + MAC_BYTES or not self.content.startswith(_ETHERNET):
            return ""
        return self.content[skipped:].hex(":")

    @property
    def uuid(self) -> bytes:
        """The 16 octets of a DUID-UUID, b"" for the other kinds."""
        return self.content if self.kind == DuidKind.UUID and len(self.content) == UUID_BYTES else b""


@dataclass(frozen=True, slots=True)
class VendorClass:
    """Option 16: what kind of hardware and software, in the words of one enterprise (IANA's number)."""

    enterprise: int
    classes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class VendorOptions:
    """Option 17: options of one enterprise, as (code, bytes)."""

    enterprise: int
    options: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class IdentityAssociation:
    """Option 3: the addresses a client asks for or has. T1 and T2 in seconds; `status` None where it is absent."""

    iaid: int
    t1_s: int
    t2_s: int
    addresses: tuple[str, ...]
    status: int | None = None


@dataclass(frozen=True, slots=True)
class LinkLayer:
    """Option 79: the client's hardware address as the first relay saw it."""

    hardware_type: int
    address: bytes


@dataclass(frozen=True, slots=True)
class RemoteId:
    """Option 37: where a relay heard the client, in the words of one enterprise."""

    enterprise: int
    identifier: bytes


@dataclass(frozen=True, slots=True)
class ClientInterface:
    """Option 62: the kind of network device interface (1: UNDI) and its version."""

    interface_type: int
    major: int
    minor: int


def decode_duid(value: bytes) -> Duid:
    """Options 1 and 2."""
    _need(value, 3, "a DUID")
    return Duid(int.from_bytes(value[:2], "big"), value[2:])


def encode_duid(duid: Duid) -> bytes:
    """Options 1 and 2 of a DUID."""
    return duid.kind.to_bytes(2, "big") + duid.content


def link_layer_duid(mac: str) -> bytes:
    """DUID-LL of an Ethernet address."""
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) != MAC_BYTES:
        raise MisuseError(f"{mac!r} is no Ethernet address")
    return encode_duid(Duid(DuidKind.LINK_LAYER, _ETHERNET + octets))


def decode_vendor_class(value: bytes) -> VendorClass:
    """Option 16."""
    _need(value, 4, "option 16")
    return VendorClass(int.from_bytes(value[:4], "big"), _read_texts(value[4:], "option 16"))


def encode_vendor_class(vendor_class: VendorClass) -> bytes:
    """Option 16."""
    return vendor_class.enterprise.to_bytes(4, "big") + _write_texts(vendor_class.classes)


def decode_vendor_options(value: bytes) -> VendorOptions:
    """Option 17."""
    _need(value, 4, "option 17")
    return VendorOptions(int.from_bytes(value[:4], "big"), read_pairs(value[4:]))


def encode_vendor_options(vendor: VendorOptions) -> bytes:
    """Option 17."""
    return vendor.enterprise.to_bytes(4, "big") + write_pairs(vendor.options)


def decode_user_classes(value: bytes) -> tuple[bytes, ...]:
    """Option 15."""
    return _read_texts(value, "option 15")


def encode_user_classes(classes: tuple[bytes, ...]) -> bytes:
    """Option 15."""
    return _write_texts(classes)


def decode_boot_parameters(value: bytes) -> tuple[bytes, ...]:
    """Option 60."""
    return _read_texts(value, "option 60")


def encode_boot_parameters(parameters: tuple[bytes, ...]) -> bytes:
    """Option 60."""
    return _write_texts(parameters)


def decode_codes(value: bytes) -> tuple[int, ...]:
    """A list of 16-bit numbers: options 6 (codes asked for) and 61 (architectures, the preferred one first)."""
    if len(value) % 2:
        raise MalformedMessage("option_length", f"{len(value)} bytes, expected 2 for each number")
    return struct.unpack(f"!{len(value) // 2}H", value)


def encode_codes(codes: tuple[int, ...]) -> bytes:
    """Options 6 and 61."""
    return struct.pack(f"!{len(codes)}H", *codes)


def decode_client_interface(value: bytes) -> ClientInterface:
    """Option 62."""
    if len(value) != 3:
        raise MalformedMessage("option_length", f"option 62 has {len(value)} bytes, expected 3")
    return ClientInterface(*value)


def decode_link_layer(value: bytes) -> LinkLayer:
    """Option 79."""
    _need(value, 3, "option 79")
    return LinkLayer(int.from_bytes(value[:2], "big"), value[2:])


def encode_link_layer(link_layer: LinkLayer) -> bytes:
    """Option 79."""
    return link_layer.hardware_type.to_bytes(2, "big") + link_layer.address


def decode_remote_id(value: bytes) -> RemoteId:
    """Option 37."""
    _need(value, 4, "option 37")
    return RemoteId(int.from_bytes(value[:4], "big"), value[4:])


def decode_identity_association(value: bytes) -> IdentityAssociation:
    """Option 3, with the addresses that stand in it (option 5)."""
    _need(value, 12, "option 3")
    iaid, t1_s, t2_s = struct.unpack_from("!III", value)
    addresses = []
    status = None
    for code, content in read_pairs(value[12:]):
        if code == Option.IA_ADDRESS:
            _need(content, 24, "option 5")
            addresses.append(str(ipaddress.IPv6Address(content[:16])))
        elif code == Option.STATUS_CODE:
            _need(content, 2, "option 13")
            status = int.from_bytes(content[:2], "big")
    return IdentityAssociation(iaid, t1_s, t2_s, tuple(addresses), status)


def read_pairs(octets: bytes) -> tuple[tuple[int, bytes], ...]:
    """Options as RFC 8415 section 21.1 has them, wherever they stand."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(octets):
        start = position + 4
        if start > len(octets):
            raise MalformedMessage("option_truncated", f"{len(octets) - position} bytes where an option should begin")
        code, size = struct.unpack_from("!HH", octets, position)
        position = start + size
        if position > len(octets):
            raise MalformedMessage("option_truncated", f"option {code} runs past its end by {position - len(octets)}")
        found.append((code, octets[start:position]))
    return tuple(found)


def write_pairs(options: tuple[tuple[int, bytes], ...]) -> bytes:
    """Options to bytes, in their order. Raises MisuseError for a value past 65535 bytes."""
    for code, value in options:
        if len(value) > 0xFFFF:
            raise MisuseError(f"option {code} would have {len(value)} bytes")
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def _need(value: bytes, size: int, what: str) -> None:
    if len(value) < size:
        raise MalformedMessage("option_length", f"{what} has {len(value)} bytes, expected at least {size}")


def _read_texts(content: bytes, what: str) -> tuple[bytes, ...]:
    """Texts, each after its length in two octets: the shape of options 15, 16 and 60."""
    texts = []
    position = 0
    while position < len(content):
        start = position + 2
        stop = start + int.from_bytes(content[position:start], "big")
        if start > len(content) or stop > len(content):
            raise MalformedMessage("suboption_truncated", f"{what} ends inside a text")
        texts.append(content[start:stop])
        position = stop
    return tuple(texts)


def _write_texts(texts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(text).to_bytes(2, "big") + text for text in texts)
