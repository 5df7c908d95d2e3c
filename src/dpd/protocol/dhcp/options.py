# SPDX-License-Identifier: Apache-2.0
"""What stands inside DHCP options that network boot needs: PXE's option 43, architectures, GUID, user class, option 82.

The frame around them (code, length, joining, overload) belongs to `message`. Every reader here takes the bytes of one
option and raises MalformedMessage where they cannot be what their specification says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache

from dpd.errors import MalformedMessage, MisuseError

PAD, END = 0, 255
MAX_VENDOR_BYTES = 253  # longer values need RFC 3396 splitting, which firmware rarely joins


class Option(IntEnum):
    """Option codes: RFC 2132 unless noted."""

    REQUESTED_ADDRESS = 50
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_LIST = 55
    MAX_MESSAGE_SIZE = 57
    VENDOR_CLASS = 60
    CLIENT_ID = 61
    VENDOR = 43
    TFTP_SERVER = 66
    BOOT_FILE = 67
    USER_CLASS = 77  # RFC 3004
    RELAY_AGENT = 82  # RFC 3046
    CLIENT_ARCH = 93  # RFC 4578
    CLIENT_INTERFACE = 94  # RFC 4578
    CLIENT_MACHINE_ID = 97  # RFC 4578
    TFTP_SERVERS = 150  # RFC 5859
    IPXE = 175  # site-specific code that iPXE took; encapsulates its features
    BCD = 252  # private: where Microsoft's boot manager finds its store; the same number as WPAD


class PxeTag(IntEnum):
    """Sub-options of option 43 (PXE 2.1 table 2-1)."""

    DISCOVERY_CONTROL = 6
    MULTICAST_ADDRESS = 7
    BOOT_SERVERS = 8
    BOOT_MENU = 9
    MENU_PROMPT = 10
    BOOT_ITEM = 71


class DiscoveryControl(IntFlag):
    """Bits of tag 6 (PXE 2.1 table 2-1)."""

    NO_BROADCAST = 1
    NO_MULTICAST = 2
    LISTED_SERVERS_ONLY = 4
    FILE_IS_GIVEN = 8  # boot the file of this packet: no menu, no discovery, no visit to 4011


class RelayTag(IntEnum):
    """Sub-options of option 82."""

    CIRCUIT_ID = 1
    LINK_SELECTION = 5  # RFC 3527
    SERVER_ID_OVERRIDE = 11  # RFC 5107
    SOURCE_PORT = 19  # RFC 8357


@dataclass(frozen=True, slots=True)
class BootServer:
    """One type of boot server and where to find it (tag 8)."""

    server_type: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MenuItem:
    """One line of the boot menu (tag 9)."""

    server_type: int
    text: str


@dataclass(frozen=True, slots=True)
class MenuPrompt:
    """What is shown before the menu (tag 10). 0 seconds takes the first item at once, 255 waits for a key."""

    seconds: int
    text: str


@dataclass(frozen=True, slots=True)
class BootItem:
    """The item a client chose (tag 71). The top bit of `layer` asks for credentials."""

    server_type: int
    layer: int


@dataclass(frozen=True, slots=True)
class PxeOptions:
    """Option 43 between a PXE client and its server; None or empty where the tag is absent."""

    discovery_control: int | None = None
    multicast_address: str | None = None
    boot_servers: tuple[BootServer, ...] = ()
    menu: tuple[MenuItem, ...] = ()
    prompt: MenuPrompt | None = None
    item: BootItem | None = None


@dataclass(frozen=True, slots=True)
class ClientInterface:
    """Option 94: the kind of network device interface (1: UNDI) and its version."""

    interface_type: int
    major: int
    minor: int


@lru_cache(maxsize=4096)  # an answer packs our own address four times
def pack_address(text: str) -> bytes:
    """Dotted IPv4 to 4 bytes. Raises MisuseError: addresses come from the kernel, settings or `unpack_address`."""
    try:
        octets = bytes(int(part) for part in text.split("."))
    except ValueError:
        octets = b""
    if len(octets) != 4:
        raise MisuseError(f"{text!r} is no IPv4 address")
    return octets


def unpack_address(octets: bytes) -> str:
    """4 bytes to dotted IPv4."""
    return f"{octets[0]}.{octets[1]}.{octets[2]}.{octets[3]}"


def read_suboptions(value: bytes, *, framed: bool) -> Iterator[tuple[int, bytes]]:
    """Code-length-value triples inside an option. `framed`: PAD and END exist (option 43), else not (option 82)."""
    position, size = 0, len(value)
    while position < size:
        code = value[position]
        if framed and code == PAD:
            position += 1
            continue
        if framed and code == END:
            return
        stop = position + 2 + value[position + 1] if position + 1 < size else size + 1
        if stop > size:
            raise MalformedMessage("suboption_truncated", f"sub-option {code} runs past its option")
        yield code, value[position + 2 : stop]
        position = stop


def decode_pxe_options(value: bytes) -> PxeOptions:
    """Option 43 of a packet whose option 60 says PXEClient. Tags that dpd does not use are skipped."""
    tags: dict[int, bytes] = {}
    for code, content in read_suboptions(value, framed=True):
        tags.setdefault(code, content)
    control = tags.get(PxeTag.DISCOVERY_CONTROL)
    address = tags.get(PxeTag.MULTICAST_ADDRESS)
    prompt = tags.get(PxeTag.MENU_PROMPT)
    item = tags.get(PxeTag.BOOT_ITEM)
    return PxeOptions(
        discovery_control=None if control is None else _sized(control, 1, "tag 6")[0],
        multicast_address=None if address is None else unpack_address(_sized(address, 4, "tag 7")),
        boot_servers=tuple(
            BootServer(kind, _unpack_addresses(octets))
            for kind, octets in _read_records(tags.get(PxeTag.BOOT_SERVERS, b""), 4, "tag 8")
        ),
        menu=tuple(
            MenuItem(kind, text.decode("latin-1"))
            for kind, text in _read_records(tags.get(PxeTag.BOOT_MENU, b""), 1, "tag 9")
        ),
        prompt=None if prompt is None else _read_prompt(prompt),
        item=None if item is None else BootItem(*struct.unpack("!HH", _sized(item, 4, "tag 71"))),
    )


def _sized(content: bytes, size: int, what: str) -> bytes:
    if len(content) != size:
        raise MalformedMessage("suboption_length", f"{what} has {len(content)} bytes, expected {size}")
    return content


def _read_prompt(content: bytes) -> MenuPrompt:
    if not content:
        raise MalformedMessage("suboption_length", "tag 10 is empty, expected seconds and text")
    return MenuPrompt(content[0], content[1:].decode("latin-1"))


def _read_records(content: bytes, unit: int, what: str) -> Iterator[tuple[int, bytes]]:
    """Records of a type (u16), a count (u8) and count times `unit` bytes: the shape of tags 8 and 9."""
    position = 0
    while position < len(content):
        start = position + 3
        stop = start + unit * content[start - 1] if start <= len(content) else start
        if stop > len(content):
            raise MalformedMessage("suboption_length", f"{what} ends inside a record")
        yield content[position] << 8 | content[position + 1], content[start:stop]
        position = stop


def _unpack_addresses(octets: bytes) -> tuple[str, ...]:
    return tuple(unpack_address(octets[i : i + 4]) for i in range(0, len(octets), 4))


def encode_pxe_options(options: PxeOptions) -> bytes:
    """Option 43 with its END. Raises MisuseError past 253 bytes."""
    out = bytearray()
    if options.discovery_control is not None:
        out += bytes((PxeTag.DISCOVERY_CONTROL, 1, options.discovery_control))
    if options.multicast_address is not None:
        out += bytes((PxeTag.MULTICAST_ADDRESS, 4)) + pack_address(options.multicast_address)
    if options.boot_servers:
        out += _tag(PxeTag.BOOT_SERVERS, b"".join(map(_server, options.boot_servers)))
    if options.menu:
        out += _tag(PxeTag.BOOT_MENU, b"".join(map(_menu_item, options.menu)))
    if options.prompt is not None:
        out += _tag(PxeTag.MENU_PROMPT, bytes((options.prompt.seconds,)) + options.prompt.text.encode("latin-1"))
    if options.item is not None:
        out += _tag(PxeTag.BOOT_ITEM, struct.pack("!HH", options.item.server_type, options.item.layer))
    out.append(END)
    if len(out) > MAX_VENDOR_BYTES:
        raise MisuseError(f"option 43 would have {len(out)} bytes, expected at most {MAX_VENDOR_BYTES}")
    return bytes(out)


def _tag(code: int, content: bytes) -> bytes:
    if len(content) > 255:
        raise MisuseError(f"tag {code} would have {len(content)} bytes, expected at most 255")
    return bytes((code, len(content))) + content


def _server(server: BootServer) -> bytes:
    head = struct.pack("!HB", server.server_type, len(server.addresses))
    return head + b"".join(map(pack_address, server.addresses))


def _menu_item(item: MenuItem) -> bytes:
    text = item.text.encode("latin-1")
    return struct.pack("!HB", item.server_type, len(text)) + text


def decode_client_arch(value: bytes) -> tuple[int, ...]:
    """Option 93: a list of architectures, the preferred one first (RFC 4578 section 2.1)."""
    if not value or len(value) % 2:
        raise MalformedMessage("option_length", f"option 93 has {len(value)} bytes, expected 2 for each architecture")
    return struct.unpack(f"!{len(value) // 2}H", value)


def encode_client_arch(codes: tuple[int, ...]) -> bytes:
    """Option 93 of these architectures."""
    return struct.pack(f"!{len(codes)}H", *codes)


def decode_client_interface(value: bytes) -> ClientInterface:
    """Option 94 (RFC 4578 section 2.2)."""
    if len(value) != 3:
        raise MalformedMessage("option_length", f"option 94 has {len(value)} bytes, expected 3")
    return ClientInterface(*value)


@lru_cache(maxsize=4096)  # a machine tells it some five times in a boot
def decode_machine_id(value: bytes) -> str:
    """Option 97 as GUID text, or "" where the board has none of its own: absent, all zero, all F, another type.

    The wire has SMBIOS's layout, first three fields little-endian (EDK2 and iPXE alike).
    """
    if len(value) != 17 or value[0] != 0 or value[1:] in (bytes(16), b"\xff" * 16):
        return ""
    first, second, third, fourth, rest = struct.unpack("<IHH2s6s", value[1:])
    return f"{first:08x}-{second:04x}-{third:04x}-{fourth.hex()}-{rest.hex()}"


def encode_machine_id(guid: str) -> bytes:
    """Option 97 of a GUID text."""
    octets = bytes.fromhex(guid.replace("-", ""))
    if len(octets) != 16:
        raise MisuseError(f"{guid!r} is no GUID")
    return b"\0" + struct.pack("<IHH", *struct.unpack("!IHH", octets[:8])) + octets[8:]


def decode_user_classes(value: bytes) -> tuple[bytes, ...]:
    """Option 77 both as RFC 3004 has it (length before each class) and as raw text, which iPXE sends."""
    classes = []
    position = 0
    while position < len(value):
        stop = position + 1 + value[position]
        if value[position] == 0 or stop > len(value):
            return (value,)
        classes.append(value[position + 1 : stop])
        position = stop
    return tuple(classes)


def encode_user_classes(classes: tuple[bytes, ...]) -> bytes:
    """Option 77 as RFC 3004 has it."""
    return b"".join(bytes((len(name),)) + name for name in classes)
