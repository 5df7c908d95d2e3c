# SPDX-License-Identifier: Apache-2.0
"""What somebody on the network may do to a session: elements of a path that forge, replay and hold datagrams back.

A forger here is a member: it hears everything, knows session, epoch and numbers, and can say whatever the sender can say
but sign. What it says reaches a receiver beside the true datagrams.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum

from tests.sim.link import Flight

from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS, SYMBOL_BYTES
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    Beat,
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Ncf,
    SlabDeficits,
    decode_header,
)

_EPOCH_AT, _SESSION_AT = 3, 7  # their last bytes in a header


class Forgery(Enum):
    """What may be forged."""

    DATA = "a source symbol of the slab being sent"
    PARITY = "a parity symbol of it"
    NCF = "everything that this slab lacks is coming"
    BEAT = "nothing is left to send"
    END = "the session is over"


@dataclass
class Forge:
    """Behind a share of the datagrams comes a forged one of `kinds`."""

    share: float
    kinds: tuple[Forgery, ...]
    forged: int = 0

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed: Flight = []
        for time, datagram in flight:
            passed.append((time, datagram))
            if len(datagram) == DATAGRAM_BYTES and rng.random() < self.share:
                self.forged += 1
                passed.append((time, forge(rng.choice(self.kinds), decode_header(datagram), rng)))
        return passed


def forge(kind: Forgery, true: Header, rng: random.Random) -> bytes:
    """A datagram like the one that has just passed. Its symbols are noise, its numbers plausible."""
    header = replace(true, column=rng.randrange(COLUMNS), tx_seq=true.tx_seq + rng.randrange(-64, 64) & 0xFFFFFFFF)
    noise = rng.randbytes(SYMBOL_BYTES)
    if kind is Forgery.DATA:
        return replace(header, type=MessageType.DATA, row=rng.randrange(ROWS)).encode() + noise
    if kind is Forgery.PARITY:
        row = ROWS + rng.randrange(min(PARITY_ROWS, 8))
        return replace(header, type=MessageType.PARITY, row=row, flags=Flag.REPAIR).encode() + noise
    bare = replace(true, row=0, column=0, flags=0)
    if kind is Forgery.NCF:
        everything = SlabDeficits(true.slab, bytes([255] * COLUMNS))
        return Ncf(replace(bare, type=MessageType.NCF), (everything,)).encode()
    if kind is Forgery.BEAT:
        ends = replace(bare, type=MessageType.BEAT, flags=Flag.END_OF_PASS, tx_time=true.tx_time + 1000 & 0xFFFFFFFF)
        return Beat(ends, 0, 1, 1).encode(lambda _: rng.randbytes(64))
    end = replace(bare, type=MessageType.CONTROL, row=ControlCode.END)
    return Control(end).encode(lambda _: rng.randbytes(64))


@dataclass
class Replay:
    """Behind a share of the datagrams comes one of the last `memory` once more."""

    share: float
    memory: int = 20_000
    _past: deque[bytes] = field(default_factory=deque)

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed: Flight = []
        for time, datagram in flight:
            passed.append((time, datagram))
            self._past.append(datagram)
            if len(self._past) > self.memory:
                self._past.popleft()
            if rng.random() < self.share:
                passed.append((time, self._past[rng.randrange(len(self._past))]))
        return passed


@dataclass
class Foreign:
    """Behind a share of the datagrams comes one of another session on the same group, or of this one before a restart."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed: Flight = []
        for time, datagram in flight:
            passed.append((time, datagram))
            if len(datagram) >= HEADER_BYTES and rng.random() < self.share:
                at = rng.choice([_EPOCH_AT, _SESSION_AT])
                changed = bytearray(datagram)
                changed[at] ^= 1 + rng.randrange(255)
                passed.append((time, bytes(changed[:HEADER_BYTES]) + rng.randbytes(len(datagram) - HEADER_BYTES)))
        return passed


@dataclass
class Silence:
    """A share of one kind of message is lost."""

    kind: MessageType
    share: float
    lost: int = 0

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [entry for entry in flight if not self._is_lost(entry[1], rng)]

    def _is_lost(self, datagram: bytes, rng: random.Random) -> bool:
        if len(datagram) < HEADER_BYTES or datagram[0] & 15 != self.kind or rng.random() >= self.share:
            return False
        self.lost += 1
        return True


@dataclass
class Asleep:
    """A receiver that does not read from its socket for a while: `buffer` datagrams wait there, the rest is lost."""

    begin_s: float
    end_s: float
    buffer: int
    _waiting: int = 0

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed: Flight = []
        for time, datagram in flight:
            if not self.begin_s <= time < self.end_s:
                passed.append((time, datagram))
            elif self._waiting < self.buffer:
                self._waiting += 1
                passed.append((self.end_s, datagram))
        return passed
