# SPDX-License-Identifier: Apache-2.0
"""TFTP packets: RFC 1350, with the options of RFC 2347 in requests and in OptionAck.

`decode` returns a message or raises MalformedMessage whose reason is one of REASONS; nothing is guessed or repaired.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.machine import Buffer

MAX_REQUEST_BYTES = 512  # RFC 2347: "the maximum size of a request packet is 512 octets"
MAX_BLKSIZE = 65464  # RFC 2348
MIN_BLKSIZE = 8  # RFC 2348
DEFAULT_BLKSIZE = 512  # RFC 1350
MAX_WINDOWSIZE = 65535  # RFC 7440
HEADER_BYTES = 4  # opcode and block number in front of a block
PRINTABLE = frozenset(range(0x20, 0x7F))

REASONS = (
    "ack_length",
    "data_length",
    "error_text",
    "no_filename",
    "not_ascii",
    "opcode",
    "option_twice",
    "options_unpaired",
    "request_too_long",
    "too_short",
    "unterminated",
)

_HEADER = struct.Struct(">HH")
Options: TypeAlias = tuple[tuple[str, str], ...]


class Opcode(IntEnum):
    """RFC 1350 section 5, RFC 2347."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(IntEnum):
    """RFC 1350 appendix, RFC 2347."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TID = 5
    FILE_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_REFUSED = 8


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A client wants a file. Mode and option names in lower case, since RFC 1350 and 2347 ignore their case."""

    filename: str
    mode: str = "octet"
    options: Options = ()


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A client wants to store a file; dpd only reads, so that this is always refused."""

    filename: str
    mode: str = "octet"
    options: Options = ()


@dataclass(frozen=True, slots=True)
class Data:
    """One block; shorter than blksize means the last."""

    block_number: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The last block received in order. `next_window` is the fifth byte that Windows' bootmgr adds (msftwindow)."""

    block_number: int
    next_window: int | None = None


@dataclass(frozen=True, slots=True)
class OptionAck:
    """The options that the server grants, with the values it grants."""

    options: Options


@dataclass(frozen=True, slots=True)
class Error:
    """Ends a transfer. `code` may lie outside ErrorCode: clients send what they like."""

    code: int
    message: str = ""


Message: TypeAlias = ReadRequest | WriteRequest | Data | Ack | OptionAck | Error


def decode(datagram: Buffer) -> Message:
    """The message in a datagram. Raises MalformedMessage."""
    content = bytes(datagram)
    if len(content) < HEADER_BYTES:
        raise MalformedMessage("too_short", f"{len(content)} bytes, expected at least {HEADER_BYTES}")
    opcode, number = _HEADER.unpack_from(content)
    if opcode == Opcode.ACK:
        return _decode_ack(content, number)
    if opcode in (Opcode.RRQ, Opcode.WRQ):
        return _decode_request(content, opcode)
    if opcode == Opcode.DATA:
        return _decode_data(content, number)
    if opcode == Opcode.OACK:
        return OptionAck(_paired(_texts(content[2:])))
    if opcode == Opcode.ERROR:
        return _decode_error(content, number)
    raise MalformedMessage("opcode", f"{opcode}, expected 1 to 6")


def encode(message: Message) -> bytes:
    """The datagram of a message. Raises MisuseError for what TFTP cannot say."""
    match message:
        case ReadRequest() | WriteRequest():
            opcode = Opcode.RRQ if isinstance(message, ReadRequest) else Opcode.WRQ
            fields = (message.filename, message.mode, *_flat(message.options))
            return struct.pack(">H", opcode) + _terminated(fields)
        case Data():
            return _HEADER.pack(Opcode.DATA, message.block_number) + message.payload
        case Ack():
            tail = b"" if message.next_window is None else bytes([message.next_window])
            return _HEADER.pack(Opcode.ACK, message.block_number) + tail
        case OptionAck():
            return struct.pack(">H", Opcode.OACK) + _terminated(_flat(message.options))
        case Error():
            return _HEADER.pack(Opcode.ERROR, message.code) + _terminated((message.message,))


def _decode_ack(content: bytes, number: int) -> Ack:
    if len(content) == HEADER_BYTES:
        return Ack(number)
    if len(content) == HEADER_BYTES + 1:
        return Ack(number, content[HEADER_BYTES])
    raise MalformedMessage("ack_length", f"{len(content)} bytes, expected 4, or 5 with msftwindow")


def _decode_data(content: bytes, number: int) -> Data:
    if len(content) > HEADER_BYTES + MAX_BLKSIZE:
        raise MalformedMessage("data_length", f"{len(content)} bytes, expected at most {HEADER_BYTES + MAX_BLKSIZE}")
    return Data(number, content[HEADER_BYTES:])


def _decode_request(content: bytes, opcode: int) -> ReadRequest | WriteRequest:
    if len(content) > MAX_REQUEST_BYTES:
        raise MalformedMessage("request_too_long", f"{len(content)} bytes, expected at most {MAX_REQUEST_BYTES}")
    texts = _texts(content[2:])
    if len(texts) < 2:
        raise MalformedMessage("unterminated", "expected file name and mode, each ended by a NUL")
    filename, mode, *rest = texts
    if not filename or not mode:
        raise MalformedMessage("no_filename", "file name and mode must not be empty")
    kind = ReadRequest if opcode == Opcode.RRQ else WriteRequest
    return kind(filename, mode.lower(), _paired(rest))


def _decode_error(content: bytes, code: int) -> Error:
    """The text is free and often not ASCII (localised firmware); what cannot be shown is replaced, never refused.
    Some ROMs also forget the final NUL."""
    text, _, rest = content[HEADER_BYTES:].partition(b"\0")
    if rest or len(text) > MAX_REQUEST_BYTES:
        raise MalformedMessage("error_text", "expected one text of at most 512 bytes, ended by a NUL")
    return Error(code, "".join(chr(octet) if octet in PRINTABLE else "?" for octet in text))


def _texts(content: bytes) -> list[str]:
    """NUL-terminated printable ASCII strings; the last one must be terminated too."""
    if not content.endswith(b"\0"):
        raise MalformedMessage("unterminated", "the last string has no NUL")
    if not PRINTABLE.issuperset(content.replace(b"\0", b"")):
        raise MalformedMessage("not_ascii", "expected printable ASCII")
    return content[:-1].decode("ascii").split("\0")


def _paired(texts: list[str]) -> Options:
    names = [name.lower() for name in texts[0::2]]
    if len(texts) % 2 or not all(names):
        raise MalformedMessage("options_unpaired", "expected name and value for each option")
    if len(set(names)) < len(names):  # RFC 2347: "an option may only be specified once"
        raise MalformedMessage("option_twice", "expected each option once")
    return tuple(zip(names, texts[1::2], strict=True))


def _flat(options: Options) -> Iterable[str]:
    return (text for option in options for text in option)


def _terminated(texts: Iterable[str]) -> bytes:
    parts: Final = [text.encode("ascii", errors="replace") for text in texts]
    if any(b"\0" in part for part in parts):
        raise MisuseError("a TFTP string cannot hold a NUL")
    return b"".join(part + b"\0" for part in parts)
