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

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.geometry import COLUMNS, ROWS, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    MAX_REPRESENTATIVES,
    Beat,
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    decode_message,
    encode_row_headers,
)
from dpd.protocol.multicast.pacing import Credit, RoundTrip, TokenBucket
from dpd.protocol.multicast.repair import SlabRepair

WIRE_OVERHEAD_BYTES = 66  # UDP, IPv4 and Ethernet with preamble and gap around each datagram
BEAT_S = 0.1  # while data flows
WAITING_BEAT_S = 0.02  # while the sender waits for feedback: each one is a chance to notice a lost tail
END_COPIES = 3  # END is not acknowledged
RECENT_SLABS = 4096


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
class Ignored:
    """Fact: a datagram that changes nothing; `reason` is from a closed set."""

    reason: str


SenderEvent = ParityNeeded | SlabSettled | MemberSilent | Ignored


@dataclass(slots=True)
class Member:
    """What the sender knows of one receiver. Slab sets are integers: bit n is slab n."""

    member: int
    credit: Credit
    free_slabs: int
    verified: int
    heard_at: float
    held: int = 0
    reported_seen: int = -1  # what `verified` and `held` take into account; NACKs move only the credit
    is_live: bool = True
    round_trip: RoundTrip = field(default_factory=RoundTrip)
    received: int = 0
    lost: int = 0
    socket_drops: int = 0
    nacks: int = 0


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
    """`session` and `epoch` as in the header; `quiet_s`: how long no new member must have come before a
    group of them is served, `patience_s`: how long the first of them waits at most."""

    def __init__(
        self,
        *,
        session: int,
        epoch: int,
        geometry: Geometry,
        bucket: TokenBucket,
        member_timeout_s: float = 10.0,
        quiet_s: float = 0.25,
        patience_s: float = 2.0,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.geometry = geometry
        self.bucket = bucket
        self.members: dict[int, Member] = {}
        self.counters = SenderCounters()
        self.pass_number = 1
        self._member_timeout_s = member_timeout_s
        self._quiet_s = quiet_s
        self._patience_s = patience_s
        self._start_at: float | None = None
        self._patience_ends = 0.0
        self._seq = 0
        self._position = -1  # the slab being sent, or sent last
        self._row = 0
        self._rows = 0  # rows of the slab being sent; 0: none
        self._recent: deque[tuple[int, int, int]] = deque(maxlen=RECENT_SLABS)  # first seq, last seq, slab
        self._repairs: dict[int, SlabRepair] = {}
        self._parity_ready: dict[int, int] = {}
        self._parity_asked: dict[int, int] = {}
        self._repaired_last = False
        self._is_waiting = False
        self._is_stalled = False
        self._beat_at = 0.0
        self._ends_left = 0
        self.has_ended = False
        self._events: deque[SenderEvent] = deque()

    # ---- members

    def add_member(self, member: int, *, verified: int, credit: int, free_slabs: int, now: float) -> None:
        """A receiver joined. `verified`: what it has; `credit`: symbols its socket buffer holds; `free_slabs`: slabs it
        can assemble at once."""
        if not self._is_lacking():  # the first of a group: those who come right behind share its pass
            self._start_at = None
        if not self._has_started(now):
            if self._start_at is None:
                self._patience_ends = now + self._patience_s
            self._start_at = min(now + self._quiet_s, self._patience_ends)
        self.members[member] = Member(
            member, Credit(max(credit, COLUMNS), self._seq, now), free_slabs, verified, now, reported_seen=self._seq - 1
        )
        self._is_waiting = False

    def remove_member(self, member: int) -> None:
        """A receiver completed or left."""
        if self.members.pop(member, None):
            self._settle()

    def end(self) -> None:
        """Say END to the group; nothing else is sent afterwards."""
        self._ends_left = END_COPIES

    def _has_started(self, now: float) -> bool:
        return self._start_at is not None and now >= self._start_at

    def _live_members(self) -> list[Member]:
        return [m for m in self.members.values() if m.is_live]

    def _representatives(self) -> list[Member]:
        """Those who report fast and are waited for: the first who still lack something."""
        wanting = (m for m in self.members.values() if m.is_live and m.verified != self.geometry.every_slab)
        return [m for m, _ in zip(wanting, range(MAX_REPRESENTATIVES), strict=False)]

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
        elif isinstance(message, Nack):
            self._take_nack(member, message, now)
        else:
            self._take_report(member, message, now)

    def _take_nack(self, member: Member, nack: Nack, now: float) -> None:
        self.counters.nacks += 1
        member.nacks += 1
        seen = self._expand(nack.seen_seq)
        self._hear(member, seen, now)
        for asked in nack.slabs:
            if asked.slab >= self.geometry.slab_count:
                self._events.append(Ignored("out_of_range"))
                continue
            repair = self._repairs.get(asked.slab)
            if repair is None:
                repair = self._repairs[asked.slab] = SlabRepair(self.geometry.rows(asked.slab))
            repair.merge(asked.deficits, seen)

    def _take_report(self, member: Member, report: Report, now: float) -> None:
        if report.slab_count != self.geometry.slab_count:
            self._events.append(Ignored("out_of_range"))
            return
        self.counters.reports += 1
        self._hear(member, self._expand(report.seen_seq), now)
        if report.verified & ~member.verified:
            member.verified |= report.verified
            member.credit.moved_at, member.credit.is_standing = now, True
            self._settle()
        member.reported_seen = max(member.reported_seen, self._expand(report.seen_seq))
        member.held = sum(1 << slab for slab in set(report.held))
        member.free_slabs = report.free_slabs
        member.received, member.lost, member.socket_drops = report.received, report.lost, report.socket_drops
        elapsed_us = (int(now * 1e6) - report.echo_time - report.echo_delay_us) & 0xFFFFFFFF
        if report.echo_time and elapsed_us < 10_000_000:
            member.round_trip.update(elapsed_us / 1e6)

    def _hear(self, member: Member, seen: int, now: float) -> None:
        member.heard_at = now
        member.is_live = True
        member.credit.update(seen, now)

    def _expand(self, seq: int) -> int:
        """A 32-bit tx_seq from the wire as the full number that was meant: the latest one not ahead of us."""
        return self._seq - ((self._seq - seq) & 0xFFFFFFFF)

    def handle_timeout(self, now: float) -> None:
        """Withdraw members that have been silent for too long."""
        for member in self._live_members():
            if now - member.heard_at > self._member_timeout_s:
                member.is_live = False
                self._events.append(MemberSilent(member.member))
                self._settle()

    def provide_parity(self, slab: int, rows: int) -> None:
        """Parity rows 0 .. rows - 1 of a slab are there now."""
        self._parity_ready[slab] = max(rows, self._parity_ready.get(slab, 0))

    def next_event(self) -> SenderEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self, now: float) -> float | None:
        """When `poll_transmit` or `handle_timeout` has something to do though nothing arrives; None: never."""
        if self._ends_left:
            return now
        live = self._live_members()
        if not live:
            return None
        if self._start_at is not None and now < self._start_at:
            return self._start_at
        waits = [min(m.heard_at for m in live) + self._member_timeout_s]
        if self._is_lacking():
            waits.append(self._beat_at)
            if not self._is_waiting:
                waits.append(self._beat_at if self._is_stalled else self.bucket.ready_at(now))
        return min(waits)

    # ---- output

    def poll_transmit(self, now: float) -> Train | Beat | Control | None:
        """What to send next, or None until `next_timeout` or feedback."""
        if self._ends_left:
            return self._next_end()
        if self.has_ended or not (self._has_started(now) and self._is_lacking()):
            return None
        if now >= self._beat_at:
            return self._next_beat(now)
        if self.bucket.ready_at(now) > now:
            return None
        self._is_stalled = not self._credit_allows(now)
        if self._is_stalled:
            self.counters.credit_stalls += 1
            self._beat_at = min(self._beat_at, now + WAITING_BEAT_S)  # what it lacks may be a tail that was lost
            return None
        train = self._next_train(now)
        if train is None:
            if not self._is_waiting:
                self._is_waiting = True
                return self._next_beat(now)
            return None
        self._is_waiting = False
        self.bucket.spend(train.count * (DATAGRAM_BYTES + WIRE_OVERHEAD_BYTES))
        return train

    def _is_lacking(self) -> bool:
        return any(m.is_live and m.verified != self.geometry.every_slab for m in self.members.values())

    def _credit_allows(self, now: float) -> bool:
        return all(m.credit.allows(self._seq + COLUMNS, now) for m in self._representatives())

    def _next_train(self, now: float) -> Train | None:
        """Repairs and new rows take turns; either goes on alone when the other has nothing."""
        first, second = self._next_repair, self._next_row
        if self._repaired_last:
            first, second = second, first
        train = first(now) or second(now)
        self._repaired_last = train is not None and train.symbols is not None
        return train

    def _next_row(self, now: float) -> Train | None:
        if self._row >= self._rows and not self._start_next_slab(now):
            return None
        row, self._row = self._row, self._row + 1
        is_last = self._row >= self._rows
        header = self._header(MessageType.DATA, now, self._position, row, Flag.END_OF_SLAB if is_last else 0)
        headers = encode_row_headers(header)
        self._seq += COLUMNS
        self.counters.source_symbols += COLUMNS
        if is_last:
            first, _, slab = self._recent.pop()
            self._recent.append((first, self._seq - 1, slab))
        return Train(self._position, row, None, headers)

    def _start_next_slab(self, now: float) -> bool:
        slab = self._choose_slab()
        if slab is None or not self._slabs_are_free(now):
            return False
        if slab <= self._position and self._rows:
            self.pass_number += 1
        self._position, self._row, self._rows = slab, 0, self.geometry.rows(slab)
        if (self._seq & 0xFFFFFFFF) + self._rows * COLUMNS > 0xFFFFFFFF:  # no row may straddle the wrap of tx_seq
            self._seq += (-self._seq) % COLUMNS
        unseen = 1 << 62  # its last symbol is still to come, so nobody has seen it
        self._recent.append((self._seq, unseen, slab))
        return True

    def _choose_slab(self) -> int | None:
        """The next slab in the circle that a live member lacks and that is neither held by it nor on its way."""
        needed = 0
        for member in self.members.values():
            if member.is_live and member.verified != self.geometry.every_slab:
                on_the_way = 0
                for _, last_seq, slab in reversed(self._recent):
                    if last_seq <= member.reported_seen:
                        break
                    on_the_way |= 1 << slab
                needed |= ~(member.verified | member.held | on_the_way)
        needed &= self.geometry.every_slab
        if not needed:
            return None
        ahead = needed >> (self._position + 1) << (self._position + 1)
        return _lowest(ahead or needed)

    def _slabs_are_free(self, now: float) -> bool:
        """Whether each representative can take one slab more than those started since its last report."""
        for member in self._representatives():
            started = sum(1 for first, _, _ in self._recent if first > member.reported_seen)
            if started >= max(member.free_slabs, 1) and member.credit.is_standing:
                if now - member.credit.moved_at <= 1.0:
                    return False
                member.credit.is_standing = False
        return True

    def _next_repair(self, now: float) -> Train | None:
        for slab, repair in self._repairs.items():
            if not repair.is_pending:
                continue
            needed, ready = repair.parity_rows_needed(), self._parity_ready.get(slab, 0)
            if needed > ready:
                self._ask_parity(slab, needed)
                continue
            return self._repair_train(slab, repair, now)
        return None

    def _ask_parity(self, slab: int, needed: int) -> None:
        asked = self._parity_asked.get(slab, 0)
        if needed > asked:
            self._parity_asked[slab] = needed
            self._events.append(ParityNeeded(slab, asked, needed - asked))

    def _repair_train(self, slab: int, repair: SlabRepair, now: float) -> Train:
        symbols = repair.take(COLUMNS)
        headers = bytearray()
        for i, (row, column) in enumerate(symbols):
            is_last = i == len(symbols) - 1 and not repair.is_pending
            kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
            flags = Flag.REPAIR | (Flag.END_OF_SLAB if is_last else 0)
            headers += self._header(kind, now, slab, row, flags, column).encode()
            self._seq += 1
        repair.note_sent(symbols, self._seq - 1)
        self.counters.repair_symbols += len(symbols)
        return Train(slab, symbols[0][0], symbols, bytes(headers))

    def _header(self, kind: MessageType, now: float, slab: int, row: int, flags: int, column: int = 0) -> Header:
        return Header(
            kind, self.session, self.epoch, flags, slab, row, column, 0, self._seq, int(now * 1e6), 0, self._nack_ms()
        )

    def _nack_ms(self) -> int:
        return min(max(len(self.members) // 20, 2), 50)

    def _next_beat(self, now: float) -> Beat:
        self._beat_at = now + (WAITING_BEAT_S if self._is_waiting else BEAT_S)
        self.counters.beats += 1
        flags = Flag.END_OF_PASS if self._is_waiting else 0
        position = max(self._position, 0)
        header = self._header(MessageType.BEAT, now, position, 0, flags)
        latest = replace(header, tx_seq=self._seq - 1)
        names = tuple(m.member & 0xFFFFFFFF for m in self._representatives())
        return Beat(latest, position, self.pass_number, len(self.members), names)

    def _next_end(self) -> Control:
        self._ends_left -= 1
        self.has_ended = self._ends_left == 0
        return Control(Header(MessageType.CONTROL, self.session, self.epoch, row=ControlCode.END, tx_seq=self._seq - 1))

    def _settle(self) -> None:
        """Drop the repair state of slabs that no live member lacks."""
        settled = self.geometry.every_slab
        for member in self._live_members():
            settled &= member.verified
        for slab in [s for s in self._repairs if settled >> s & 1]:
            del self._repairs[slab]
            self._parity_ready.pop(slab, None)
            self._parity_asked.pop(slab, None)
            self._events.append(SlabSettled(slab))

    def slabs_lacking(self) -> Iterator[int]:
        """Slabs that some live member has not verified, for status."""
        return (
            s
            for s in range(self.geometry.slab_count)
            if any(m.is_live and not m.verified >> s & 1 for m in self.members.values())
        )


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
