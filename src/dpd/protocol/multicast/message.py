# SPDX-License-Identifier: Apache-2.0
"""The messages of dpd-mc/1: one 28-byte header in network byte order, then the payload of its type.

     0        1        2                 4                          8                          12
    | ver|typ | flags  |      epoch      |         session          |           slab           |
    |       row        | col    | class  |          tx_seq          |         tx_time          |
    |        h         |    nack_ms      |
     24                 26                28

To the group: DATA, PARITY (one symbol), BEAT (the sender lives; who reports fast), NCF (what repair is coming),
CONTROL (the session ends, or some receivers are to leave it). BEAT and CONTROL end with an Ed25519 signature.
To the sender: NACK (deficits per column of a slab), REPORT (what a receiver has, holds and counts).
`tx_seq` counts the symbols sent in a class, repairs included; other messages repeat the latest one, so that a lost tail
shows. Trains are decoded in place by the receiver machine; this module reads one message and refuses everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
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
MAX_CONTROL_MEMBERS = 250
SIGNATURE_BYTES = 64  # Ed25519, over everything before it
TAG_BYTES = 16  # AES-GCM, behind a sealed symbol

_BEAT = struct.Struct("!IHHB")
_CONTROL = struct.Struct("!BB")
_NCF = struct.Struct("!B")
_NACK = struct.Struct("!QIB")
_SLAB_DEFICITS = struct.Struct(f"!I{COLUMNS}s")
_REPORT = struct.Struct("!QIIHH")
_TALLY = struct.Struct("!10I")
_REPORT_SLABS = struct.Struct("!BII")

Sign = Callable[[bytes], bytes]  # what is sent before its signature -> SIGNATURE_BYTES


def unsigned(body: bytes) -> bytes:
    """No signature, where whoever reads the message does not ask for one: simulations and tests."""
    return bytes(SIGNATURE_BYTES)


class MessageType(IntEnum):
    """The low four bits of the first byte."""

    DATA = 1
    PARITY = 2
    BEAT = 3
    NCF = 4
    CONTROL = 5
    NACK = 8
    REPORT = 9


class Flag(IntFlag):
    """Header flags."""

    REPAIR = 1  # sent on request, out of file order
    END_OF_SLAB = 2  # the last symbol of this slab, or of this burst of repairs, for now
    END_OF_PASS = 4  # the sender has nothing to send until it hears what is missing
    SEALED = 8  # the symbol is encrypted and TAG_BYTES follow it


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

    def encode(self, sign: Sign = unsigned) -> bytes:
        fixed = _BEAT.pack(
            self.position, self.pass_number & 0xFFFF, min(self.members, 0xFFFF), len(self.representatives)
        )
        names = struct.pack(f"!{len(self.representatives)}I", *self.representatives)
        return _signed(self.header.encode() + fixed + names, sign)


class ControlCode(IntEnum):
    """What a CONTROL message says, in its `row` field."""

    END = 1  # the session is over; join again to go on
    MOVE = 2  # the members named are in another speed class now; join again to learn its group
    FALL_BACK = 3  # the members named go on by unicast
    KICK = 4  # the members named are not served any more


class ControlReason(IntEnum):
    """Why, in words that `ControlCode` needs no more of; 0 where the code says it all."""

    NONE = 0
    OPERATOR = 1  # somebody asked for it
    SLOW = 2  # it drained less than the class needs
    BLAME = 3  # most of the repair was for its sake
    RECOVERED = 4  # fast enough for a faster class again
    ENDGAME = 5  # so few are left that multicast gains nothing


@dataclass(frozen=True, slots=True)
class Control:
    """CONTROL: an order to the whole group, or to the `members` named by the low halves of their ids."""

    header: Header
    reason: int = ControlReason.NONE
    members: tuple[int, ...] = ()

    @property
    def code(self) -> int:
        """A ControlCode; others are of later versions and mean nothing here."""
        return self.header.row

    def encode(self, sign: Sign = unsigned) -> bytes:
        names = struct.pack(f"!{len(self.members)}I", *self.members)
        return _signed(self.header.encode() + _CONTROL.pack(self.reason, len(self.members)) + names, sign)


def _signed(body: bytes, sign: Sign) -> bytes:
    return body + sign(body)


@dataclass(frozen=True, slots=True)
class SlabDeficits:
    """A number of symbols for each of a slab's columns: those a receiver still lacks to reach k (NACK), or those that are
    about to be sent (NCF)."""

    slab: int
    deficits: bytes  # uint8[COLUMNS]


@dataclass(frozen=True, slots=True)
class Ncf:
    """NCF: what the sender will send for these slabs behind `header.tx_seq`; whoever lacks no more need not ask."""

    header: Header
    slabs: tuple[SlabDeficits, ...]

    def encode(self) -> bytes:
        return self.header.encode() + _NCF.pack(len(self.slabs)) + _encode_deficits(self.slabs)


@dataclass(frozen=True, slots=True)
class Nack:
    """NACK: what is missing, as known when `seen_seq` was the last symbol seen."""

    header: Header
    member: int
    seen_seq: int
    slabs: tuple[SlabDeficits, ...]

    def encode(self) -> bytes:
        fixed = _NACK.pack(self.member, self.seen_seq & 0xFFFFFFFF, len(self.slabs))
        return self.header.encode() + fixed + _encode_deficits(self.slabs)


def _encode_deficits(slabs: tuple[SlabDeficits, ...]) -> bytes:
    return b"".join(_SLAB_DEFICITS.pack(s.slab, s.deficits) for s in slabs)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a receiver has counted in this session; each wraps at 2**32."""

    received: int = 0  # symbols
    lost: int = 0  # symbols missing in tx_seq and not dropped by our own socket
    socket_drops: int = 0
    duplicates: int = 0
    reordered: int = 0  # symbols behind a later one
    repairs: int = 0  # repair symbols taken in
    suppressed: int = 0  # NACKs not sent because another's had the same effect
    bad_slabs: int = 0  # hash not the manifest's
    unicast_slabs: int = 0  # slabs that came by HTTP
    drain_kib_s: int = 0  # verified and stored, lately


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
    tally: Tally
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
        )
        tally = _TALLY.pack(*(getattr(self.tally, each.name) & 0xFFFFFFFF for each in fields(Tally)))
        slabs = _REPORT_SLABS.pack(len(self.held), self.window, self.slab_count)
        held = struct.pack(f"!{len(self.held)}I", *self.held)
        bitmap = self.verified.to_bytes(-(-self.slab_count // 8), "little")
        return self.header.encode() + fixed + tally + slabs + held + bitmap


Message = Symbol | Beat | Ncf | Control | Nack | Report


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
    if count > MAX_REPRESENTATIVES or len(body) != _BEAT.size + 4 * count + SIGNATURE_BYTES:
        raise MalformedMessage("wrong_length", f"BEAT with {count} representatives in {len(body)} bytes")
    return Beat(header, position, pass_number, members, struct.unpack_from(f"!{count}I", body, _BEAT.size))


def _decode_control(header: Header, body: bytes) -> Control:
    reason, count = _CONTROL.unpack_from(body)
    if count > MAX_CONTROL_MEMBERS or len(body) != _CONTROL.size + 4 * count + SIGNATURE_BYTES:
        raise MalformedMessage("wrong_length", f"CONTROL with {count} members in {len(body)} bytes")
    return Control(header, reason, struct.unpack_from(f"!{count}I", body, _CONTROL.size))


def _decode_ncf(header: Header, body: bytes) -> Ncf:
    (count,) = _NCF.unpack_from(body)
    return Ncf(header, _decode_deficits(body, _NCF.size, count))


def _decode_nack(header: Header, body: bytes) -> Nack:
    member, seen_seq, count = _NACK.unpack_from(body)
    return Nack(header, member, seen_seq, _decode_deficits(body, _NACK.size, count))


def _decode_deficits(body: bytes, start: int, count: int) -> tuple[SlabDeficits, ...]:
    if not 0 < count <= MAX_NACK_SLABS or len(body) != start + count * _SLAB_DEFICITS.size:
        raise MalformedMessage("wrong_length", f"deficits of {count} slabs in {len(body)} bytes")
    return tuple(SlabDeficits(*entry) for entry in _SLAB_DEFICITS.iter_unpack(body[start:]))


def _decode_report(header: Header, body: bytes) -> Report:
    member, seen, echo_time, echo_delay, free = _REPORT.unpack_from(body)
    tally = Tally(*_TALLY.unpack_from(body, _REPORT.size))
    slabs_at = _REPORT.size + _TALLY.size
    held_count, window, slab_count = _REPORT_SLABS.unpack_from(body, slabs_at)
    held_at = slabs_at + _REPORT_SLABS.size
    bitmap_at = held_at + 4 * held_count
    if held_count > MAX_HELD_SLABS or len(body) != bitmap_at + -(-slab_count // 8):
        raise MalformedMessage("wrong_length", f"REPORT of {slab_count} slabs, {held_count} held, in {len(body)} bytes")
    held = struct.unpack_from(f"!{held_count}I", body, held_at)
    verified = int.from_bytes(body[bitmap_at:], "little")
    if verified >> slab_count or any(slab >= slab_count for slab in held):
        raise MalformedMessage("out_of_range", f"REPORT names a slab beyond the last of {slab_count}")
    return Report(header, member, seen, echo_time, echo_delay * 64, free, tally, held, window, slab_count, verified)


_DECODERS: dict[MessageType, Callable[[Header, bytes], Message]] = {
    MessageType.DATA: _decode_symbol,
    MessageType.PARITY: _decode_symbol,
    MessageType.BEAT: _decode_beat,
    MessageType.NCF: _decode_ncf,
    MessageType.CONTROL: _decode_control,
    MessageType.NACK: _decode_nack,
    MessageType.REPORT: _decode_report,
}
