# SPDX-License-Identifier: Apache-2.0
"""The messages of dpd-mc/1: one 28-byte header in network byte order, then the payload of its type.

     0        1        2                 4                          8                          12
    | ver|typ | flags  |      epoch      |         session          |           slab           |
    |       row        | col    | class  |          tx_seq          |         tx_time          |
    |        h         |    nack_ms      |
     24                 26                28

To the group: DATA, PARITY (one symbol), BEAT (the sender lives; who reports fast), CONTROL (the session ends).
To the sender: NACK (deficits per column of a slab), REPORT (what a receiver has, holds and counts).
`tx_seq` counts the symbols sent in a class, repairs included; other messages repeat the latest one, so that a lost tail
shows. Trains are decoded in place by the receiver machine; this module reads one message and refuses everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS, SYMBOL_BYTES

WIRE_VERSION = 1
HEADER = struct.Struct("!BBHIIHBBIIHH")
HEADER_BYTES = HEADER.size
DATAGRAM_BYTES = HEADER_BYTES + SYMBOL_BYTES
MAX_FEEDBACK_BYTES = 65507  # a REPORT fits one frame up to 63 GB; that of a larger object is fragmented by IP
MAX_ECHO_DELAY_US = 0xFFFF * 64
MAX_NACK_SLABS = 32
MAX_HELD_SLABS = 64
MAX_REPRESENTATIVES = 16

_BEAT = struct.Struct("!IHHB")
_NACK = struct.Struct("!QIB")
_NACK_SLAB = struct.Struct(f"!I{COLUMNS}s")
_REPORT = struct.Struct("!QIIHHIIIBII")


class MessageType(IntEnum):
    """The low four bits of the first byte."""

    DATA = 1
    PARITY = 2
    BEAT = 3
    CONTROL = 5
    NACK = 8
    REPORT = 9


class Flag(IntFlag):
    """Header flags."""

    REPAIR = 1  # sent on request, out of file order
    END_OF_SLAB = 2  # the last symbol of this slab, or of this burst of repairs, for now
    END_OF_PASS = 4  # the sender has nothing to send until it hears what is missing


@dataclass(frozen=True, slots=True)
class Header:
    """The fields that all messages share; those a type does not use are 0."""

    type: MessageType
    session: int
    epoch: int
    flags: int = 0
    slab: int = 0
    row: int = 0
    column: int = 0
    speed_class: int = 0
    tx_seq: int = 0
    tx_time: int = 0
    promised_rows: int = 0
    nack_ms: int = 0

    def encode(self) -> bytes:
        return HEADER.pack(
            WIRE_VERSION << 4 | self.type,
            self.flags,
            self.epoch,
            self.session,
            self.slab,
            self.row,
            self.column,
            self.speed_class,
            self.tx_seq & 0xFFFFFFFF,
            self.tx_time & 0xFFFFFFFF,
            self.promised_rows,
            self.nack_ms,
        )


def decode_header(datagram: Buffer) -> Header:
    """The header of one datagram. Raises MalformedMessage: too_short, wrong_version, unknown_type, out_of_range."""
    if len(datagram) < HEADER_BYTES:
        raise MalformedMessage("too_short", f"{len(datagram)} bytes, a header has {HEADER_BYTES}")
    first, flags, epoch, session, slab, row, column, speed_class, tx_seq, tx_time, promised, nack_ms = (
        HEADER.unpack_from(datagram)
    )
    if first >> 4 != WIRE_VERSION:
        raise MalformedMessage("wrong_version", f"{first >> 4}, expected {WIRE_VERSION}")
    try:
        kind = MessageType(first & 15)
    except ValueError:
        raise MalformedMessage("unknown_type", str(first & 15)) from None
    if column >= COLUMNS or row >= ROWS + PARITY_ROWS:
        raise MalformedMessage("out_of_range", f"row {row}, column {column}")
    return Header(kind, session, epoch, flags, slab, row, column, speed_class, tx_seq, tx_time, promised, nack_ms)


@dataclass(frozen=True, slots=True)
class Symbol:
    """DATA or PARITY: one encoding symbol of SYMBOL_BYTES."""

    header: Header
    payload: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """BEAT: where the sender is. Receivers named in `representatives` report fast, the others now and then."""

    header: Header
    position: int
    pass_number: int
    members: int
    representatives: tuple[int, ...] = ()

    def encode(self) -> bytes:
        fixed = _BEAT.pack(
            self.position, self.pass_number & 0xFFFF, min(self.members, 0xFFFF), len(self.representatives)
        )
        return self.header.encode() + fixed + struct.pack(f"!{len(self.representatives)}I", *self.representatives)


class ControlCode(IntEnum):
    """What a CONTROL message says, in its `row` field."""

    END = 1


@dataclass(frozen=True, slots=True)
class Control:
    """CONTROL: the session ends; join again to go on."""

    header: Header

    def encode(self) -> bytes:
        return self.header.encode()


@dataclass(frozen=True, slots=True)
class SlabDeficits:
    """How many symbols a receiver still lacks in each of a slab's columns, to reach k."""

    slab: int
    deficits: bytes  # uint8[COLUMNS]


@dataclass(frozen=True, slots=True)
class Nack:
    """NACK: what is missing, as known when `seen_seq` was the last symbol seen."""

    header: Header
    member: int
    seen_seq: int
    slabs: tuple[SlabDeficits, ...]

    def encode(self) -> bytes:
        fixed = _NACK.pack(self.member, self.seen_seq & 0xFFFFFFFF, len(self.slabs))
        return self.header.encode() + fixed + b"".join(_NACK_SLAB.pack(s.slab, s.deficits) for s in self.slabs)


@dataclass(frozen=True, slots=True)
class Report:
    """REPORT: the state of one receiver.

    `verified` is a slab set; `held` are slabs in assembly, whose repair the receiver asks for by NACK; a slab in neither
    must come again. `echo_time` repeats the latest tx_time, `echo_delay_us` later. No more than `window` symbols are to be
    under way, sent and not yet seen; 0: as told in the join.
    """

    header: Header
    member: int
    seen_seq: int
    echo_time: int
    echo_delay_us: int
    free_slabs: int
    received: int
    lost: int
    socket_drops: int
    held: tuple[int, ...]
    window: int
    slab_count: int
    verified: int

    def encode(self) -> bytes:
        fixed = _REPORT.pack(
            self.member,
            self.seen_seq & 0xFFFFFFFF,
            self.echo_time & 0xFFFFFFFF,
            min(self.echo_delay_us, MAX_ECHO_DELAY_US) // 64,
            min(self.free_slabs, 0xFFFF),
            self.received & 0xFFFFFFFF,
            self.lost & 0xFFFFFFFF,
            self.socket_drops & 0xFFFFFFFF,
            len(self.held),
            self.window,
            self.slab_count,
        )
        bitmap = self.verified.to_bytes(-(-self.slab_count // 8), "little")
        return self.header.encode() + fixed + struct.pack(f"!{len(self.held)}I", *self.held) + bitmap


Message = Symbol | Beat | Control | Nack | Report


def decode_message(datagram: Buffer) -> Message:
    """One whole message. Raises MalformedMessage with a reason from a closed set."""
    header = decode_header(datagram)
    body = bytes(memoryview(datagram)[HEADER_BYTES:])
    try:
        return _DECODERS[header.type](header, body)
    except struct.error:
        raise MalformedMessage("wrong_length", f"{header.type.name} of {len(body)} payload bytes") from None


def _decode_symbol(header: Header, body: bytes) -> Symbol:
    if len(body) != SYMBOL_BYTES:
        raise MalformedMessage("wrong_length", f"a symbol of {len(body)} bytes, expected {SYMBOL_BYTES}")
    if (header.row >= ROWS) != (header.type is MessageType.PARITY):
        raise MalformedMessage("out_of_range", f"row {header.row} in {header.type.name}")
    return Symbol(header, body)


def _decode_beat(header: Header, body: bytes) -> Beat:
    position, pass_number, members, count = _BEAT.unpack_from(body)
    if count > MAX_REPRESENTATIVES or len(body) != _BEAT.size + 4 * count:
        raise MalformedMessage("wrong_length", f"BEAT with {count} representatives in {len(body)} bytes")
    return Beat(header, position, pass_number, members, struct.unpack_from(f"!{count}I", body, _BEAT.size))


def _decode_control(header: Header, body: bytes) -> Control:
    if body:
        raise MalformedMessage("wrong_length", f"CONTROL with {len(body)} payload bytes")
    return Control(header)


def _decode_nack(header: Header, body: bytes) -> Nack:
    member, seen_seq, count = _NACK.unpack_from(body)
    if not 0 < count <= MAX_NACK_SLABS or len(body) != _NACK.size + count * _NACK_SLAB.size:
        raise MalformedMessage("wrong_length", f"NACK of {count} slabs in {len(body)} bytes")
    slabs = tuple(SlabDeficits(*_NACK_SLAB.unpack_from(body, _NACK.size + i * _NACK_SLAB.size)) for i in range(count))
    return Nack(header, member, seen_seq, slabs)


def _decode_report(header: Header, body: bytes) -> Report:
    member, seen, echo_time, echo_delay, free, received, lost, drops, held_count, window, slab_count = (
        _REPORT.unpack_from(body)
    )
    bitmap_at = _REPORT.size + 4 * held_count
    if held_count > MAX_HELD_SLABS or len(body) != bitmap_at + -(-slab_count // 8):
        raise MalformedMessage("wrong_length", f"REPORT of {slab_count} slabs, {held_count} held, in {len(body)} bytes")
    held = struct.unpack_from(f"!{held_count}I", body, _REPORT.size)
    verified = int.from_bytes(body[bitmap_at:], "little")
    if verified >> slab_count or any(slab >= slab_count for slab in held):
        raise MalformedMessage("out_of_range", f"REPORT names a slab beyond the last of {slab_count}")
    return Report(
        header,
        member,
        seen,
        echo_time,
        echo_delay * 64,
        free,
        received,
        lost,
        drops,
        held,
        window,
        slab_count,
        verified,
    )


_DECODERS: dict[MessageType, Callable[[Header, bytes], Message]] = {
    MessageType.DATA: _decode_symbol,
    MessageType.PARITY: _decode_symbol,
    MessageType.BEAT: _decode_beat,
    MessageType.CONTROL: _decode_control,
    MessageType.NACK: _decode_nack,
    MessageType.REPORT: _decode_report,
}


_STRIDE = 8 * HEADER_BYTES
_EVERY_HEADER = sum(1 << (_STRIDE * i) for i in range(COLUMNS))
# Position of header i in a row: column i in byte 14, and i in the low bits of tx_seq (bytes 16..19); 28 bytes each.
_ROW_POSITIONS = sum(
    ((i << 8 * (HEADER_BYTES - 15)) + (i << 8 * (HEADER_BYTES - 20))) << (_STRIDE * (COLUMNS - 1 - i))
    for i in range(COLUMNS)
)
_ROW_HEADER_BYTES = COLUMNS * HEADER_BYTES


def encode_row_headers(first: Header) -> bytes:
    """The 32 headers of a whole row, back to back, for columns 0..31 and tx_seq `first.tx_seq` + 0..31.

    One multiplication on a big integer copies the header 32 times and one addition numbers them: 1.5 us a row, where
    packing 32 headers one by one takes 20. `first.tx_seq` mod 2**32 must leave room for the 31 that follow.
    """
    common = int.from_bytes(first.encode(), "big")
    return (common * _EVERY_HEADER + _ROW_POSITIONS).to_bytes(_ROW_HEADER_BYTES, "big")


def encode_repair_headers(first: Header, symbols: Sequence[tuple[int, int]], *, is_end: bool) -> bytes:
    """The headers of repairs at these (row, column), numbered from `first.tx_seq`; `is_end`: the last one says that no
    more will come for now."""
    headers = bytearray()
    for i, (row, column) in enumerate(symbols):
        kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
        flags = first.flags | (Flag.END_OF_SLAB if is_end and i == len(symbols) - 1 else 0)
        header = replace(first, type=kind, flags=flags, row=row, column=column, tx_seq=first.tx_seq + i)
        headers += header.encode()
    return bytes(headers)
