# SPDX-License-Identifier: Apache-2.0
"""BOOTP/DHCPv4 messages (RFC 2131, 2132, 3396): bytes to a frozen Message or MalformedMessage, and back.

Options stay in the order of the wire as (code, bytes). Decoding joins what was split (RFC 3396) and reads the options
that option 52 moved into `file` and `sname`; so a code stands at most once in a Message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp.options import END, PAD, Option, pack_address, unpack_address

BOOT_REQUEST, BOOT_REPLY = 1, 2
BROADCAST_FLAG = 0x8000
MAGIC_COOKIE = b"\x63\x82\x53\x63"
MIN_BYTES = 300  # RFC 1542 section 2.1: shorter messages are dropped by old relays
MAX_BYTES = 4096  # no network-boot client comes near; bounds the work that one datagram can ask for
MAX_OPTION = 255
UNSPECIFIED = "0.0.0.0"

_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_NO_ADDRESS = bytes(4)
_FOR_CALLERS = frozenset(range(1, 255)) - {Option.OVERLOAD}
_LENGTHS: dict[int, int] = {  # options that this module's readers trust to have their one length
    Option.MESSAGE_TYPE: 1,
    Option.OVERLOAD: 1,
    Option.SERVER_ID: 4,
    Option.REQUESTED_ADDRESS: 4,
    Option.MAX_MESSAGE_SIZE: 2,
}

Options = tuple[tuple[int, bytes], ...]


class MessageType(IntEnum):
    """Option 53 (RFC 2132 section 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `chaddr` has as many bytes as hlen says; `sname` and `file` are cut at their first NUL."""

    op: int
    xid: int
    chaddr: bytes
    options: Options = ()
    htype: int = 1
    hops: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: str = UNSPECIFIED
    yiaddr: str = UNSPECIFIED
    siaddr: str = UNSPECIFIED
    giaddr: str = UNSPECIFIED
    sname: bytes = b""
    file: bytes = b""
    _values: dict[int, bytes] = field(init=False, repr=False, compare=False)  # a decision looks up some 20 options

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", dict(self.options))

    def option(self, code: int) -> bytes | None:
        """The value of an option, None where it is absent."""
        return self._values.get(code)

    def address(self, code: int) -> str | None:
        """An option that is one IPv4 address (50, 54)."""
        value = self.option(code)
        return None if value is None else unpack_address(value)

    @property
    def message_type(self) -> int | None:
        """Option 53; None in plain BOOTP. Not a MessageType, since a peer may send any number."""
        value = self.option(Option.MESSAGE_TYPE)
        return None if value is None else value[0]


def decode(data: bytes) -> Message:
    """Bytes to a Message. Raises MalformedMessage with a reason out of a closed set."""
    if len(data) < _HEADER.size:
        raise MalformedMessage("too_short", f"{len(data)} bytes, expected at least {_HEADER.size}")
    if len(data) > MAX_BYTES:
        raise MalformedMessage("too_long", f"{len(data)} bytes, expected at most {MAX_BYTES}")
    op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file, cookie = (
        _HEADER.unpack_from(data)
    )
    if cookie != MAGIC_COOKIE:
        raise MalformedMessage("no_magic_cookie", f"{cookie.hex()} where {MAGIC_COOKIE.hex()} was expected")
    if op not in (BOOT_REQUEST, BOOT_REPLY):
        raise MalformedMessage("operation", f"op {op}, expected 1 or 2")
    if hlen > 16:
        raise MalformedMessage("hardware_address_length", f"hlen {hlen}, expected at most 16")
    options, sname, file = _read_options(data, sname, file)
    return Message(
        op=op,
        xid=xid,
        chaddr=chaddr[:hlen],
        options=tuple(options.items()),
        htype=htype,
        hops=hops,
        secs=secs,
        flags=flags,
        ciaddr=_dotted(ciaddr),
        yiaddr=_dotted(yiaddr),
        siaddr=_dotted(siaddr),
        giaddr=_dotted(giaddr),
        sname=sname.partition(b"\0")[0],
        file=file.partition(b"\0")[0],
    )


def _read_options(data: bytes, sname: bytes, file: bytes) -> tuple[dict[int, bytes], bytes, bytes]:
    """Every option, wherever it stands, and what then is left of the two header fields."""
    found: dict[int, bytes] = {}
    _scan(data, _HEADER.size, found)
    overload = found.pop(Option.OVERLOAD, None)
    if overload is not None:
        sname, file = _scan_overload(overload, sname, file, found)
    for code, length in _LENGTHS.items():
        if code in found and len(found[code]) != length:
            raise MalformedMessage("option_length", f"option {code} has {len(found[code])} bytes, expected {length}")
    return found, sname, file


def _dotted(octets: bytes) -> str:
    return UNSPECIFIED if octets == _NO_ADDRESS else unpack_address(octets)


def _scan(area: bytes, position: int, found: dict[int, bytes]) -> None:
    """Read options up to END or the end of the area into `found`, joining repeated codes (RFC 3396 section 7).

    A missing END is let pass: some boot ROMs leave it out, and the datagram's length says as much.
    """
    size = len(area)
    while position < size:
        code = area[position]
        position += 1
        if code == PAD:
            continue
        if code == END:
            return
        if position == size:
            raise MalformedMessage("option_truncated", f"option {code} has no length")
        start = position + 1
        position = start + area[position]
        if position > size:
            raise MalformedMessage("option_truncated", f"option {code} runs past the end")
        value = area[start:position]
        found[code] = found[code] + value if code in found else value


def _scan_overload(overload: bytes, sname: bytes, file: bytes, found: dict[int, bytes]) -> tuple[bytes, bytes]:
    """Options in `file`, then in `sname` (RFC 3396 section 5). Returns what is left of the two fields as text."""
    if len(overload) != 1 or overload[0] not in (1, 2, 3):
        raise MalformedMessage("overload", f"option 52 is {overload.hex()}, expected 01, 02 or 03")
    if overload[0] & 1:
        _scan(file, 0, found)
        file = b""
    if overload[0] & 2:
        _scan(sname, 0, found)
        sname = b""
    if Option.OVERLOAD in found:
        raise MalformedMessage("overload", "option 52 inside the fields that it overloads")
    return sname, file


def encode(message: Message) -> bytes:
    """A Message to bytes: at least 300, long options split (RFC 3396), option 82 last (RFC 3046 section 2.2).

    Raises MisuseError for what has no place on the wire.
    """
    _check(message)
    header = _HEADER.pack(
        message.op,
        message.htype,
        len(message.chaddr),
        message.hops,
        message.xid,
        message.secs,
        message.flags,
        pack_address(message.ciaddr),
        pack_address(message.yiaddr),
        pack_address(message.siaddr),
        pack_address(message.giaddr),
        message.chaddr,
        message.sname,
        message.file,
        MAGIC_COOKIE,
    )
    out = bytearray(header)
    for code, value in message.options:
        if code != Option.RELAY_AGENT:
            _append_option(out, code, value)
    relay = message.option(Option.RELAY_AGENT)
    if relay is not None:
        _append_option(out, Option.RELAY_AGENT, relay)
    out.append(END)
    return bytes(out.ljust(MIN_BYTES, b"\0"))


def _append_option(out: bytearray, code: int, value: bytes) -> None:
    while len(value) > MAX_OPTION:
        out += bytes((code, MAX_OPTION)) + value[:MAX_OPTION]
        value = value[MAX_OPTION:]
    out.append(code)
    out.append(len(value))
    out += value
    if code == Option.BOOT_FILE:
        # EDK2 (PxeBcDhcp4.c, HttpBootDhcp4.c) ends option 67 with a NUL one byte *past* its value, over the code of the
        # next option. A PAD there makes that write change nothing, and the value needs no NUL of its own.
        out.append(PAD)


def _check(message: Message) -> None:
    codes = message._values.keys()
    if len(codes) < len(message.options):
        raise MisuseError(f"options stand twice: {[code for code, _ in message.options]}")
    if not codes <= _FOR_CALLERS:
        raise MisuseError(f"options {sorted(codes)}: 0, 52 and 255 are not for callers")
    for name, content, room in (
        ("chaddr", message.chaddr, 16),
        ("sname", message.sname, 63),
        ("file", message.file, 127),
    ):
        if len(content) > room:
            raise MisuseError(f"{name} has {len(content)} bytes, expected at most {room}")
