# SPDX-License-Identifier: Apache-2.0
"""The sender of one session, in one speed class.

Theory of operation. The sender walks the slabs of the object in a circle and sends the rows of each slab that some live
member lacks: a *carousel*, so that a receiver may join at any time and still gets everything. What a member lacks is
known from its REPORTs: not verified, not held (in assembly there), and not still on the way to it. Losses within a slab
come back as NACKs, are merged by `SlabRepair`, and take turns with new rows, since receivers hold memory for them. When
nothing is lacking that is not held or on the way, the sender says END_OF_PASS in its BEATs and waits for feedback.

Two things hold it back: the token bucket (the operator's ceiling) and the credit of the representatives (up to 16
members that report fast). Neither lets one receiver stop the others for more than a second.

The machine emits `Train`s without payload: their owner gathers the symbols from the file, or from the parity rows which
it computed when asked by `ParityNeeded`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.geometry import COLUMNS, Geometry
from dpd.protocol.multicast.member import Member, SlabsSent, Wait, Waiting
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    MAX_REPRESENTATIVES,
    Beat,
    Control,
    ControlCode,
    ControlReason,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    decode_message,
)
from dpd.protocol.multicast.orders import Orders
from dpd.protocol.multicast.pacing import MIN_CREDIT, Credit, Standing, TokenBucket
from dpd.protocol.multicast.repair import RepairQueue
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.train_headers import encode_repair_headers, encode_row_headers

WIRE_OVERHEAD_BYTES = 66  # UDP, IPv4 and Ethernet with preamble and gap around each datagram
BEAT_S = 0.1  # while data flows, or is about to
WAITING_BEAT_S = 0.02  # while the sender waits for feedback: each one is a chance to notice a lost tail
END_COPIES = 3  # END is not acknowledged
END_GAP_S = 0.02  # between them, or one burst of loss would take all
SETTLE_S = 0.25  # between two looks for repair state that nobody needs any more
FORGET_TIMEOUTS = 6  # a member silent for this many timeouts is forgotten; whoever is still there joins again


@dataclass(frozen=True, slots=True)
class Train:
    """Symbols of one slab to send as equal datagrams. `symbols` is None for the whole source row `row`."""

    slab: int
    row: int
    symbols: list[tuple[int, int]] | None
    headers: bytes  # HEADER_BYTES for each symbol, in order

    @property
    def count(self) -> int:
        return len(self.headers) // HEADER_BYTES


@dataclass(frozen=True, slots=True)
class ParityNeeded:
    """Request: compute parity rows `first` .. `first + count - 1` of a slab, then call `provide_parity`."""

    slab: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class SlabSettled:
    """Fact: no live member lacks this slab; its parity rows may go."""

    slab: int


@dataclass(frozen=True, slots=True)
class MemberSilent:
    """Fact: nothing was heard from a member for `member_timeout_s`; it is no longer waited for."""

    member: int


@dataclass(frozen=True, slots=True)
class MemberForgotten:
    """Fact: a member was silent for so long that nothing is kept of it."""

    member: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fact: a datagram, or a part of one, that changes nothing; `reason` is from a closed set."""

    reason: str


SenderEvent = ParityNeeded | SlabSettled | MemberSilent | MemberForgotten | Ignored


@dataclass(slots=True)
class SenderCounters:
    """Plain counts for the owner's statistics."""

    source_symbols: int = 0
    repair_symbols: int = 0
    beats: int = 0
    nacks: int = 0
    reports: int = 0
    credit_stalls: int = 0


class Sender:
    """`session` and `epoch` as in the header; `schedule`: when a group of members is served (None: a quarter of a second
    after the last of them came); `is_sealed`: symbols are encrypted before they leave, so that no tx_seq may come twice."""

    def __init__(
        self,
        *,
        session: int,
        epoch: int,
        geometry: Geometry,
        bucket: TokenBucket,
        member_timeout_s: float = 10.0,
        speed_class: int = 0,
        is_sealed: bool = False,
        schedule: Schedule | None = None,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.geometry = geometry
        self.bucket = bucket
        self.members: dict[int, Member] = {}
        self.counters = SenderCounters()
        self.pass_number = 1
        self._every_slab = geometry.every_slab
        self._member_timeout_s = member_timeout_s
        self.speed_class = speed_class
        self.is_sealed = is_sealed
        self.schedule = schedule or Schedule(0.25, 2.0)
        self._orders = Orders()
        self._seq = 0
        self._position = -1  # the slab being sent, or sent last
        self._row = 0
        self._rows = 0  # rows of the slab being sent; 0: none
        self._sent = SlabsSent()
        self._repairs = RepairQueue(lambda *asked: self._events.append(ParityNeeded(*asked)))
        self._settle_at = 0.0
        self._repaired_last = False
        self._is_held = False  # the last look found nothing that may be sent: only feedback can change that
        self._is_waiting = False  # nothing is lacking that is not held or on the way
        self._waiting = Waiting()
        self._beat_at = 0.0
        self._ends_left = 0
        self._end_at = 0.0
        self.has_ended = False
        self._events: deque[SenderEvent] = deque()

    # ---- members

    def add_member(self, member: int, *, verified: int, credit: int, free_slabs: int, now: float) -> None:
        """A receiver joined. `verified`: what it has; `credit`: symbols its socket buffer holds; `free_slabs`: slabs it
        can assemble at once."""
        latest = self._seq - 1
        self._orders.withdraw(member)
        self.members[member] = Member(
            member,
            Credit(max(credit, MIN_CREDIT), latest),
            Standing(),
            free_slabs,
            verified,
            verified == self._every_slab,
            now,
            reported_seen=latest,
            joined_at=now,
        )
        self.schedule.note_join(sum(m.is_wanting for m in self.members.values()), now)
        self._is_held = self._is_waiting = False

    def remove_member(self, member: int) -> None:
        """A receiver completed or left."""
        self._orders.withdraw(member)
        if self.members.pop(member, None) and not self._is_lacking():
            self._settle()

    def order(self, code: ControlCode, members: Iterable[int], reason: ControlReason, now: float) -> None:
        """Tell these members to move, to fall back or to go. Nothing is sent for their sake from now on; they are told
        until `remove_member`, for three seconds, and again when they are heard after that. END is for all: see `end`."""
        if code is ControlCode.END:
            self.end()
            return
        named = [m for m in members if m in self.members]
        for member in named:
            self.members[member].is_leaving = True
        self._orders.give(code, reason, named, now)
        if not self._is_lacking():
            self._settle()

    def end(self) -> None:
        """Say END to the group; nothing else is sent afterwards."""
        self._ends_left = self._ends_left or END_COPIES

    def _has_started(self, now: float) -> bool:
        at = self.schedule.starts_at(now)
        return at is not None and now >= at

    def _is_lacking(self) -> bool:
        return any(m.is_wanting for m in self.members.values())

    def _representatives(self) -> list[Member]:
        """Those who report fast and are waited for: the first who still lack something."""
        return list(islice((m for m in self.members.values() if m.is_wanting), MAX_REPRESENTATIVES))

    # ---- input

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """Feedback from a receiver; what is not for this session becomes an `Ignored` event."""
        try:
            message = decode_message(data)
        except MalformedMessage as error:
            self._events.append(Ignored(error.reason))
            return
        if not isinstance(message, Nack | Report):
            self._events.append(Ignored("not_feedback"))
        elif message.header.session != self.session or message.header.epoch != self.epoch:
            self._events.append(Ignored("other_session"))
        elif (member := self.members.get(message.member)) is None:
            self._events.append(Ignored("unknown_member"))
        elif member.is_leaving:
            member.heard_at = now
            self._orders.remind(member.member, now)
            self._events.append(Ignored("leaving_member"))
        elif isinstance(message, Nack):
            self._take_nack(member, message, now)
        elif message.slab_count != self.geometry.slab_count:
            self._events.append(Ignored("out_of_range"))
        else:
            self.counters.reports += 1
            seen = self._expand(message.seen_seq)
            member.hear(seen, now)
            member.take_report(message, seen, self._every_slab, now)

    def _take_nack(self, member: Member, nack: Nack, now: float) -> None:
        self.counters.nacks += 1
        member.nacks += 1
        seen = self._expand(nack.seen_seq)
        member.hear(seen, now)
        for asked in nack.slabs:
            if asked.slab >= self.geometry.slab_count or not self._sent.ever >> asked.slab & 1:
                self._events.append(Ignored("out_of_range"))
            elif not member.verified >> asked.slab & 1:  # else it has crossed the member's own REPORT
                self._repairs.merge(asked.slab, self.geometry.rows(asked.slab), asked.deficits, seen)

    def _expand(self, seq: int) -> int:
        """A 32-bit tx_seq from the wire as the full number that was meant: the latest one that was sent."""
        latest = self._seq - 1
        return latest - ((latest - seq) & 0xFFFFFFFF)

    def handle_timeout(self, now: float) -> None:
        """Withdraw members that have been silent for too long, and repair state that nobody needs."""
        for member in list(self.members.values()):
            silent_s = now - member.heard_at
            if member.is_live and silent_s > self._member_timeout_s:
                member.is_live = False
                self._events.append(MemberSilent(member.member))
            elif silent_s > FORGET_TIMEOUTS * self._member_timeout_s:
                del self.members[member.member]
                self._orders.withdraw(member.member)
                self._events.append(MemberForgotten(member.member))
        if now >= self._settle_at or not self._is_lacking():
            self._settle_at = now + SETTLE_S
            self._settle()

    def provide_parity(self, slab: int, rows: int) -> None:
        """Parity rows 0 .. rows - 1 of a slab are there now."""
        self._repairs.provide_parity(slab, rows)

    def next_event(self) -> SenderEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self, now: float) -> float | None:
        """When `poll_transmit` or `handle_timeout` has something to do though nothing arrives; None: never."""
        if self._ends_left:
            return max(now, self._end_at)
        if self._orders.due_at() < math.inf:
            return max(now, min(self._orders.due_at(), self._work_at(now)))
        at = self._work_at(now)
        return at if at < math.inf else None

    def _work_at(self, now: float) -> float:
        if self._is_lacking():  # a BEAT is due often enough to notice the silent, too
            starts_at = self.schedule.starts_at(now)
            if starts_at is None or now < starts_at:
                return min(self._beat_at, starts_at or math.inf)
            return self._beat_at if self._is_held else min(self._beat_at, self.bucket.ready_at(now))
        if not self.members:
            return math.inf
        patience = (1 if m.is_live else FORGET_TIMEOUTS for m in self.members.values())
        return min(
            m.heard_at + p * self._member_timeout_s for m, p in zip(self.members.values(), patience, strict=True)
        )

    # ---- output

    def poll_transmit(self, now: float) -> Train | Beat | Control | None:
        """What to send next, or None until `next_timeout` or feedback."""
        if self._ends_left:
            return self._next_end(now)
        if order := self._orders.take(now):
            return self._control(*order)
        if self.has_ended or not self._is_lacking():
            return None
        if now >= self._beat_at:
            return self._next_beat(now)
        if not self._has_started(now) or self.bucket.ready_at(now) > now:
            return None
        train = self._next_train(now)
        self._is_held = train is None
        if train is not None:
            self._is_waiting = False
            self.bucket.spend(train.count * (DATAGRAM_BYTES + WIRE_OVERHEAD_BYTES))
        elif self._waiting:
            self.counters.credit_stalls = self._waiting.stalls
            self._beat_at = min(self._beat_at, now + WAITING_BEAT_S)  # what it lacks may be a tail that was lost
        elif not self._is_waiting:
            self._is_waiting = True
            return self._next_beat(now)
        return train

    def _next_train(self, now: float) -> Train | None:
        """Repairs and new rows take turns; either goes on alone when the other has nothing."""
        last_seq = self._seq + COLUMNS - 1
        representatives = self._representatives()
        without_room = [m for m in representatives if not m.credit.allows(last_seq)]
        if self._waiting.must_go_on(Wait.CREDIT, without_room, len(representatives), now):
            return None
        turns = [self._next_row, self._next_repair] if self._repaired_last else [self._next_repair, self._next_row]
        train = turns[0](now) or turns[1](now)
        self._repaired_last = train is not None and train.symbols is not None
        return train

    def _next_row(self, now: float) -> Train | None:
        if self._row >= self._rows and not self._start_next_slab(now):
            return None
        if self._seq & 0xFFFFFFFF > 0x1_0000_0000 - COLUMNS:
            self._seq += -self._seq & (COLUMNS - 1)  # the headers of a row are numbered without a carry: none may wrap
        row, self._row = self._row, self._row + 1
        is_last = self._row >= self._rows
        header = self._header(MessageType.DATA, now, self._position, row, Flag.END_OF_SLAB if is_last else 0)
        headers = encode_row_headers(header)
        self._seq += COLUMNS
        self.counters.source_symbols += COLUMNS
        if is_last:
            self._sent.end(self._seq - 1)
        return Train(self._position, row, None, headers)

    def _start_next_slab(self, now: float) -> bool:
        slab = self._choose_slab()
        if slab is None:
            self._waiting.end(Wait.SLABS)
            return False
        representatives = self._representatives()
        without_room = [m for m in representatives if self._sent.begun_for(m) >= m.free_slabs]
        if self._waiting.must_go_on(Wait.SLABS, without_room, len(representatives), now):
            return False
        if slab <= self._position and self._rows:
            self.pass_number += 1
        self._position, self._row, self._rows = slab, 0, self.geometry.rows(slab)
        self._sent.begin(slab, self._seq)
        return True

    def _choose_slab(self) -> int | None:
        """The next slab in the circle that a live member lacks."""
        lacking = self._sent.lacking(m for m in self.members.values() if m.is_wanting) & self._every_slab
        if not lacking:
            return None
        next_round = lacking >> (self._position + 1) << (self._position + 1) or lacking
        return (next_round & -next_round).bit_length() - 1

    def _next_repair(self, now: float) -> Train | None:
        taken = self._repairs.take(COLUMNS)
        if taken is None:
            return None
        slab, repair, symbols = taken
        header = self._header(MessageType.PARITY, now, slab, 0, Flag.REPAIR)
        headers = encode_repair_headers(header, symbols, is_end=not repair.is_pending)
        self._seq += len(symbols)
        repair.note_sent(symbols, self._seq - 1)
        self.counters.repair_symbols += len(symbols)
        return Train(slab, symbols[0][0], symbols, headers)

    def _header(self, kind: MessageType, now: float, slab: int, row: int, flags: int) -> Header:
        return Header(
            kind,
            self.session,
            self.epoch,
            flags,
            slab,
            row,
            0,
            self.speed_class,
            self._seq,
            int(now * 1e6),
            0,
            self._nack_ms(),
        )

    def _nack_ms(self) -> int:
        return min(max(len(self.members) // 20, 2), 50)

    def _next_beat(self, now: float) -> Beat:
        self._beat_at = now + (WAITING_BEAT_S if self._is_waiting else BEAT_S)
        self.counters.beats += 1
        # A sender that waits for free slab buffers is at the end of a slab, whose tail may be lost, as is a whole pass's.
        flags = Flag.END_OF_PASS if self._is_waiting or Wait.SLABS in self._waiting else 0
        position = max(self._position, 0)
        header = self._header(MessageType.BEAT, now, position, 0, flags)
        latest = replace(header, tx_seq=self._seq - 1)
        names = tuple(m.member & 0xFFFFFFFF for m in self._representatives())
        return Beat(latest, position, self.pass_number, len(self.members), names)

    def _next_end(self, now: float) -> Control | None:
        if now < self._end_at:
            return None
        self._ends_left -= 1
        self._end_at = now + END_GAP_S
        self.has_ended = self._ends_left == 0
        return self._control(ControlCode.END, ControlReason.NONE, ())

    def _control(self, code: ControlCode, reason: int, members: tuple[int, ...]) -> Control:
        header = Header(
            MessageType.CONTROL,
            self.session,
            self.epoch,
            row=code,
            speed_class=self.speed_class,
            tx_seq=self._seq - 1,
        )
        return Control(header, reason, tuple(member & 0xFFFFFFFF for member in members))

    def _settle(self) -> None:
        """Drop the repair state of slabs that no live member has in assembly or on the way; one who joined late and
        gets such a slab again starts with its first parity row."""
        in_repair = self._sent.in_repair(m for m in self.members.values() if m.is_wanting)
        self._events.extend(map(SlabSettled, self._repairs.settle(in_repair)))
