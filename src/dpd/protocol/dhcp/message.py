# SPDX-License-Identifier: Apache-2.0
"""BOOTP/DHCPv4 messages (RFC 2131, 2132, 3396): bytes to a frozen Message or MalformedMessage, and back.

Options stay in the order of the wire as (code, bytes). Decoding joins what was split (RFC 3396) and reads the options
that option 52 moved into `file` and `sname`; so a code stands at most once in a Message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
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
_pack_header, _unpack_header = _HEADER.pack, _HEADER.unpack_from
HEADER_BYTES = _HEADER.size
_NO_ADDRESS = bytes(4)
_END = bytes((END,))
_FOR_CALLERS = frozenset(range(1, 255)) - {Option.OVERLOAD}
# Plain numbers: to fetch a member of an enumeration and look it up in a dictionary takes 99 ns, a number 25.
_MESSAGE_TYPE, _OVERLOAD, _RELAY_AGENT = int(Option.MESSAGE_TYPE), int(Option.OVERLOAD), int(Option.RELAY_AGENT)
_LENGTHS = {  # options that this module's readers trust to have their one length
    _MESSAGE_TYPE: 1,
    _OVERLOAD: 1,
    int(Option.SERVER_ID): 4,
    int(Option.REQUESTED_ADDRESS): 4,
    int(Option.MAX_MESSAGE_SIZE): 2,
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


@dataclass(slots=True)
class Message:
    """One message, to be changed by nobody; `chaddr` has as many bytes as hlen says; `sname` and `file` are cut at their first NUL.
    `message_type` is option 53, None in plain BOOTP, and no MessageType, since a peer may send any number.

    Like all that an answer makes anew it is not frozen: object.__setattr__ for its some 110 fields took 9 us of 63.
    """

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
    message_type: int | None = field(init=False, repr=False, compare=False)
    _values: dict[int, bytes] = field(init=False, repr=False, compare=False)  # a decision looks up some 20 options

    def __post_init__(self) -> None:
        self._values = values = dict(self.options)
        kind = values.get(_MESSAGE_TYPE)
        self.message_type = None if kind is None else kind[0]

    def option(self, code: int) -> bytes | None:
        """The value of an option, None where it is absent."""
        return self._values.get(code)

    def address(self, code: int) -> str | None:
        """An option that is one IPv4 address (50, 54)."""
        value = self.option(code)
        return None if value is None else unpack_address(value)


def decode(data: bytes) -> Message:
    """Bytes to a Message. Raises MalformedMessage with a reason out of a closed set."""
    if len(data) < HEADER_BYTES:
        raise MalformedMessage("too_short", f"{len(data)} bytes, expected at least {HEADER_BYTES}")
    if len(data) > MAX_BYTES:
        raise MalformedMessage("too_long", f"{len(data)} bytes, expected at most {MAX_BYTES}")
    op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file, cookie = (
        _unpack_header(data)
    )
    if cookie != MAGIC_COOKIE:
        raise MalformedMessage("no_magic_cookie", f"{cookie.hex()} where {MAGIC_COOKIE.hex()} was expected")
    if op not in (BOOT_REQUEST, BOOT_REPLY):
        raise MalformedMessage("operation", f"op {op}, expected 1 or 2")
    if hlen > 16:
        raise MalformedMessage("hardware_address_length", f"hlen {hlen}, expected at most 16")
    options, sname, file = _read_options(data, sname, file)
    return Message(  # by position: 15 names would be a dictionary that takes 1 us to make
        op,
        xid,
        chaddr[:hlen],
        tuple(options.items()),
        htype,
        hops,
        secs,
        flags,
        _dotted(ciaddr),
        _dotted(yiaddr),
        _dotted(siaddr),
        _dotted(giaddr),
        sname.partition(b"\0")[0],
        file.partition(b"\0")[0],
    )


def _read_options(data: bytes, sname: bytes, file: bytes) -> tuple[dict[int, bytes], bytes, bytes]:
    """Every option, wherever it stands, and what then is left of the two header fields."""
    found: dict[int, bytes] = {}
    _scan(data, HEADER_BYTES, found)
    if _OVERLOAD in found:
        sname, file = _scan_overload(found.pop(_OVERLOAD), sname, file, found)
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
        if code == PAD:
            position += 1
            continue
        if code == END:
            return
        start = position + 2
        if start > size:
            raise MalformedMessage("option_truncated", f"option {code} has no length")
        position = start + area[start - 1]
        if position > size:
            raise MalformedMessage("option_truncated", f"option {code} runs past the end")
        if code in found:
            found[code] += area[start:position]
        else:
            found[code] = area[start:position]


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
    if _OVERLOAD in found:
        raise MalformedMessage("overload", "option 52 inside the fields that it overloads")
    return sname, file


def encode(message: Message) -> bytes:
    """A Message to bytes: at least 300, long options split (RFC 3396), option 82 last (RFC 3046 section 2.2).

    Raises MisuseError for what has no place on the wire.
    """
    _check(message)
    header = _pack_header(
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
    told = [each for each in message.options if each[0] != _RELAY_AGENT]
    relay = message.option(_RELAY_AGENT)
    if relay is not None:
        told.append((_RELAY_AGENT, relay))
    return _closed(header + encode_options(told))


def encode_reply(
    asked: Message, *, flags: int, ciaddr: str, siaddr: str, sname: bytes, file: bytes, options: bytes
) -> bytes:
    """The answer to a decoded message: what a server copies is copied (RFC 2131 table 3), yiaddr is 0. `options` are what
    `encode_options` made, so that whoever gives many the same makes it once; `sname` and `file` have their room."""
    chaddr = asked.chaddr
    header = _pack_header(
        BOOT_REPLY,
        asked.htype,
        len(chaddr),
        asked.hops,
        asked.xid,
        0,
        flags,
        pack_address(ciaddr),
        _NO_ADDRESS,
        pack_address(siaddr),
        pack_address(asked.giaddr),
        chaddr,
        sname,
        file,
        MAGIC_COOKIE,
    )
    return _closed(header + options)


def _closed(content: bytes) -> bytes:
    return (content + _END).ljust(MIN_BYTES, b"\0")


def encode_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Options in their order, long ones split; no END."""
    out = bytearray()
    for code, value in options:
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
    return bytes(out)


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
