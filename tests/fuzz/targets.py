# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer calls with bytes of its own making. Each raises where something does not hold.

`message`: the codec. `receiver` and `sender`: a machine, with the bytes as a script of what happens to it. Datagrams of a
script are made of a real header with the fuzzer's fields, or are the fuzzer's bytes as they are. `boot_targets` has the
targets of network boot, `wim_targets` those of images.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.fuzz import boot_targets, wim_targets

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    Beat,
    Control,
    ControlCode,
    ControlReason,
    Header,
    Message,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
    decode_message,
)
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.receiver import Receiver, SessionFact, SlabReady
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import ParityNeeded, Sender

GEOMETRY = Geometry(SLAB_BYTES + 2 * ROW_BYTES)  # a whole slab and one of two rows
SESSION, EPOCH, MEMBER = 0x5E55, 7, 0x1122_3344_5566_7788
SLOTS = 2
MAX_STEPS = 64
MAX_EVENTS = 100_000
SYMBOL = bytes(range(128)) * (SYMBOL_BYTES // 128)
_HEADER_FIELDS = struct.Struct(
    "!BBBBBBHHHBB"
)  # type, flags, whose, slab, row, column, tx_seq, h, nack_ms, class, count


def message(data: bytes) -> None:
    """Bytes are a message, which encodes to what decodes to it again, or malformed for a reason."""
    try:
        found = decode_message(data)
    except MalformedMessage:
        return
    assert decode_message(_encode(found)) == found


def _encode(found: Message) -> bytes:
    return found.header.encode() + found.payload if isinstance(found, Symbol) else found.encode()


class Script:
    """Bytes, read from the front; behind their end come zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def byte(self) -> int:
        return self.take(1)[0]

    def rest_of_datagram(self) -> bytes:
        return self.take(min(self.byte() * 4 + self.byte() % 4, 2048))

    def header(self) -> tuple[Header, int]:
        """A header of our session, mostly, with the fuzzer's fields; and a number."""
        kind, flags, whose, slab, row, column, seq, promised, nack_ms, speed_class, count = _HEADER_FIELDS.unpack(
            self.take(_HEADER_FIELDS.size)
        )
        tx_seq = seq if whose & 2 else seq << 16 | 0xFFFF
        header = Header(
            list(MessageType)[kind % len(MessageType)],
            SESSION ^ (whose & 1),
            EPOCH ^ (whose >> 2 & 1),
            flags,
            slab % 3,
            row,
            column % (COLUMNS + 1),
            speed_class,
            tx_seq,
            self.byte() << 16,
            promised,
            nack_ms,
        )
        return header, count


def receiver(data: bytes) -> None:
    """Whatever comes from the group, and whenever: the machine keeps its bounds and goes on."""
    script, now = Script(data), 1.0
    machine = Receiver(
        session=SESSION,
        epoch=EPOCH,
        member=MEMBER,
        geometry=GEOMETRY,
        verified=0,
        slots=SLOTS,
        credit=4096,
        rng=random.Random(1),
        now=now,
        verify=lambda body, signature: signature[0] == 0,
    )
    ready: list[SlabReady] = []
    for _ in range(MAX_STEPS):
        if not script:
            break
        now += _RECEIVER_STEPS[script.byte() % len(_RECEIVER_STEPS)](machine, script, ready, now)
        _drain_receiver(machine, ready, now)


def _raw(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    machine.receive_datagram(script.rest_of_datagram(), ("", 0), now)
    return 0.0


def _framed(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    header, _ = script.header()
    machine.receive_datagram(header.encode() + script.rest_of_datagram(), ("", 0), now)
    return 0.0


def _row(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    """Symbols in a row of the wire, each header one further than the one before, some of them changed."""
    header, count = script.header()
    headers = bytearray()
    for i in range(count % COLUMNS + 1):
        headers += struct.pack("!B", 0x10 | header.type) + header.encode()[1:14] + bytes([(header.column + i) % 33])
        headers += header.encode()[15:16] + struct.pack("!I", (header.tx_seq + i) & 0xFFFFFFFF) + header.encode()[20:]
    if count & 0x80:
        headers[script.byte() % len(headers)] ^= script.byte()
    taken = len(headers) // HEADER_BYTES
    machine.receive_symbols(headers, memoryview(SYMBOL * taken), 0, taken, now)
    return 0.0


def _landed(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    """Symbols that land where the machine said, with headers that fit, or nearly."""
    place = machine.landing()
    if place is None:
        return 0.0
    storage, first = place
    header, count = script.header()
    count = min(count + 1, len(storage) // SYMBOL_BYTES - first)
    headers = bytearray(HEADER_BYTES * (first + count))
    for i in range(first, first + count):
        one = Header(
            MessageType.DATA, SESSION, EPOCH, 0, header.slab, i // COLUMNS, i % COLUMNS, tx_seq=header.tx_seq + i
        )
        headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES] = one.encode()
    if header.flags & 0x80:
        headers[first * HEADER_BYTES + script.byte() % (count * HEADER_BYTES)] ^= script.byte()
    taken = machine.take_landed(headers, storage, first, count, now)
    assert 0 <= taken <= count
    return 0.0


def _wait(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    return script.byte() ** 2 / 10_000  # to 6.5 s


def _finish(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    """A worker is done with a slab: stored, damaged for good, or damaged and worth keeping."""
    if ready:
        assembly = ready.pop().assembly
        verdict = script.byte() % 3
        if verdict < 2:
            machine.provide_verified(assembly, verdict == 0, now)
        else:
            assembly.keep_confirmed(bytes(assembly.rows * COLUMNS * 8))
            machine.provide_damaged(assembly, now)
    return 0.0


def _unicast(machine: Receiver, script: Script, ready: list[SlabReady], now: float) -> float:
    candidates = machine.unicast_candidates()
    assert not candidates >> GEOMETRY.slab_count
    slab = script.byte() % GEOMETRY.slab_count
    if candidates >> slab & 1:
        machine.provide_unicast(slab, now)
    return 0.0


_ReceiverStep = Callable[[Receiver, Script, list[SlabReady], float], float]
_RECEIVER_STEPS: tuple[_ReceiverStep, ...] = (_raw, _framed, _row, _landed, _wait, _finish, _unicast)


def _drain_receiver(machine: Receiver, ready: list[SlabReady], now: float) -> None:
    if now >= machine.next_timeout():
        machine.handle_timeout(now)
    assert machine.next_timeout() > now - 1e-9
    for _ in range(MAX_EVENTS):
        feedback = machine.poll_transmit(now)
        if feedback is None:
            break
        decode_message(feedback.encode())
    while (event := machine.next_event()) is not None:
        if isinstance(event, SlabReady):
            ready.append(event)
            event.assembly.deficits()
        elif not isinstance(event, SessionFact):
            assert event.reason
    assert machine.buffers <= SLOTS
    assert not machine.verified >> GEOMETRY.slab_count


def sender(data: bytes) -> None:
    """Whatever members say, and whenever: the machine keeps its bounds and goes on."""
    script, now = Script(data), 1.0
    machine = Sender(
        session=SESSION,
        epoch=EPOCH,
        geometry=GEOMETRY,
        bucket=TokenBucket(0, 2 * ROW_BYTES, now),
        schedule=Schedule(0.0, 0.0),
    )
    for member in (MEMBER, 2, 3):
        machine.add_member(member, verified=0, credit=4096, free_slabs=SLOTS, now=now)
    for _ in range(MAX_STEPS):
        if not script:
            break
        now += _SENDER_STEPS[script.byte() % len(_SENDER_STEPS)](machine, script, now)
        _drain_sender(machine, script.byte() % 8, now)


def _feed_back(machine: Sender, script: Script, now: float) -> float:
    header, whose = script.header()
    member = (MEMBER, 2, 3, 4)[whose % 4].to_bytes(8, "big")
    machine.receive_datagram(header.encode() + member + script.rest_of_datagram(), ("", 0), now)
    return 0.0


def _feed_raw(machine: Sender, script: Script, now: float) -> float:
    machine.receive_datagram(script.rest_of_datagram(), ("", 0), now)
    return 0.0


def _pass_time(machine: Sender, script: Script, now: float) -> float:
    return script.byte() ** 2 / 10_000


def _leave(machine: Sender, script: Script, now: float) -> float:
    machine.remove_member((MEMBER, 2, 3)[script.byte() % 3])
    return 0.0


_SenderStep = Callable[[Sender, Script, float], float]
_SENDER_STEPS: tuple[_SenderStep, ...] = (_feed_back, _feed_raw, _pass_time, _leave)


def _drain_sender(machine: Sender, trains: int, now: float) -> None:
    machine.handle_timeout(now)
    for _ in range(trains):
        out = machine.poll_transmit(now)
        if out is None:
            break
        while (event := machine.next_event()) is not None:
            if isinstance(event, ParityNeeded):
                machine.provide_parity(event.slab, event.first + event.count)
    until = machine.next_timeout(now)
    assert until is None or until >= now - 10.0
    assert len(machine.members) <= 3


_DEFICITS = (SlabDeficits(0, bytes(range(COLUMNS))), SlabDeficits(1, bytes(COLUMNS)))
_MESSAGES: tuple[Message, ...] = (
    Symbol(Header(MessageType.DATA, SESSION, EPOCH), SYMBOL),
    Symbol(Header(MessageType.PARITY, SESSION, EPOCH, row=ROWS), SYMBOL),
    Beat(Header(MessageType.BEAT, SESSION, EPOCH), 1, 2, 3, (4, 5)),
    Ncf(Header(MessageType.NCF, SESSION, EPOCH), _DEFICITS),
    Control(Header(MessageType.CONTROL, SESSION, EPOCH, row=ControlCode.KICK), ControlReason.SLOW, (6, 7)),
    Nack(Header(MessageType.NACK, SESSION, EPOCH), MEMBER, 8, _DEFICITS),
    Report(Header(MessageType.REPORT, SESSION, EPOCH), MEMBER, 9, 0, 0, 4, Tally(1, 2, 3), (0, 1), 64, 2, 3),
)
SEEDS = {"message": [_encode(each) for each in _MESSAGES]} | boot_targets.SEEDS | wim_targets.SEEDS
TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": message,
    "receiver": receiver,
    "sender": sender,
    **boot_targets.TARGETS,
    **wim_targets.TARGETS,
}
MAX_BYTES = {
    "message": DATAGRAM_BYTES + 64,
    "receiver": 8192,
    "sender": 8192,
    **boot_targets.MAX_BYTES,
    **wim_targets.MAX_BYTES,
}
