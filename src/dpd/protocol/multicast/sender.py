# SPDX-License-Identifier: Apache-2.0
"""The sender of one session, in one speed class.

Theory of operation. The sender walks the slabs of the object in a circle and sends the rows of each slab that some live
member lacks: a *carousel*, so that a receiver may join at any time and still gets everything. What a member lacks is
known from its REPORTs: not verified, not held (in assembly there), and not still on the way to it. Behind a slab go as
many parity rows as will be asked for anyhow (`Promise`). Losses beyond them come back as NACKs, are merged by
`SlabRepair`, announced to the others by NCF, and take turns with new rows, since receivers hold memory for them. When
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

from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.announcements import Announcements
from dpd.protocol.multicast.brake import Brake
from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.feedback import Feedback
from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.member import Member, Wait
from dpd.protocol.multicast.membership import Membership
from dpd.protocol.multicast.message import (
    MAX_NACK_SLABS,
    Beat,
    Control,
    ControlCode,
    ControlReason,
    Ncf,
)
from dpd.protocol.multicast.orders import Orders
from dpd.protocol.multicast.pacing import FIRST_CREDIT, MIN_CREDIT, Credit, Standing, TokenBucket
from dpd.protocol.multicast.policy import StreamView
from dpd.protocol.multicast.repair import RepairQueue
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender_events import Ignored as Ignored
from dpd.protocol.multicast.sender_events import MemberForgotten as MemberForgotten
from dpd.protocol.multicast.sender_events import MemberSilent as MemberSilent
from dpd.protocol.multicast.sender_events import ParityNeeded as ParityNeeded
from dpd.protocol.multicast.sender_events import SenderCounters as SenderCounters
from dpd.protocol.multicast.sender_events import SenderEvent as SenderEvent
from dpd.protocol.multicast.sender_events import SlabSettled as SlabSettled
from dpd.protocol.multicast.train import WIRE_BYTES
from dpd.protocol.multicast.train import WIRE_OVERHEAD_BYTES as WIRE_OVERHEAD_BYTES
from dpd.protocol.multicast.train import Train as Train
from dpd.protocol.multicast.train_writer import TrainWriter

BEAT_S = 0.1  # while data flows, or is about to
WAITING_BEAT_S = 0.02  # while the sender waits for feedback: each one is a chance to notice a lost tail
END_COPIES = 3  # END is not acknowledged
END_GAP_S = 0.02  # between them, or one burst of loss would take all
NCF_GAP_S = 0.001
SETTLE_S = 0.25  # between two looks for repair state that nobody needs any more
LAST_SEALED_SEQ = 0x1_0000_0000 - COLUMNS  # no nonce may come twice: the session ends, and those in it join anew


class Sender:
    """`session` and `epoch` as in the header; `schedule`: when a group of members is served (None: a quarter of a second
    after the last of them came); `is_sealed`: symbols are encrypted before they leave, so that no tx_seq may come twice; the slab set
    `first_slabs` is sent before all others."""

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
        first_slabs: int = 0,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.geometry = geometry
        self.bucket = bucket
        self.speed_class = speed_class
        self.is_sealed = is_sealed
        self.schedule = schedule or Schedule(0.25, 2.0)
        self.counters = SenderCounters()
        self.has_ended = False
        self._membership = Membership(member_timeout_s)
        self.members = self._membership.members
        self._every_slab = geometry.every_slab
        self._events: deque[SenderEvent] = deque()
        self._orders = Orders()
        self._carousel = Carousel(geometry, first_slabs)
        self._repairs = RepairQueue(lambda *asked: self._events.append(ParityNeeded(*asked)))
        self._feedback = Feedback(
            session,
            epoch,
            geometry,
            self._membership,
            self._orders,
            self._carousel,
            self._repairs,
            self.counters,
            lambda reason: self._events.append(Ignored(reason)),
        )
        self._settle_at = 0.0
        self._is_held = False  # the last look found nothing that may be sent: only feedback can change that
        self._is_waiting = False  # nothing is lacking that is not held or on the way
        self._brake = Brake(self._membership)
        self._announcements = Announcements(session, epoch, speed_class, is_sealed=is_sealed)
        self._trains = TrainWriter(
            geometry,
            self._membership,
            self._carousel,
            self._repairs,
            self._brake,
            bucket,
            self._announcements,
            self.counters,
        )
        self._beat_at = 0.0
        self._ncf_at = 0.0
        self._ends_left = 0
        self._end_at = 0.0

    @property
    def pass_number(self) -> int:
        return self._carousel.pass_number

    # ---- members

    def add_member(self, member: int, *, verified: int, credit: int, free_slabs: int, now: float) -> None:
        """A receiver joined. `verified`: what it has; `credit`: symbols its socket buffer holds; `free_slabs`: slabs it
        can assemble at once."""
        latest = self._trains.seq - 1
        self._orders.withdraw(member)
        joined = Member(
            member,
            Credit(max(min(credit, FIRST_CREDIT), MIN_CREDIT), latest),
            Standing(),
            free_slabs,
            verified,
            verified == self._every_slab,
            now,
            reported_seen=latest,
            joined_at=now,
            reported_at=now,
            buffered=max(credit, MIN_CREDIT),
            slab_count=self.geometry.slab_count,
            verified_before=verified.bit_count(),
        )
        self._membership.add(joined)
        self._carousel.note(joined)
        self.schedule.note_join(len(self._membership.wanting), now)
        self._is_held = self._is_waiting = False

    def remove_member(self, member: int) -> None:
        """A receiver completed or left."""
        self._orders.withdraw(member)
        if self._membership.remove(member) and not self._is_lacking():
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
        self._membership.touch()
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
        return bool(self._membership.wanting)

    def view(self, now: float) -> StreamView:
        """What `SlowClientPolicy` judges by. May be called from another thread: each part is copied at once."""
        sent, counters = self._carousel.sent, self.counters
        return StreamView(
            speed_class=self.speed_class,
            has_started=self._has_started(now),
            ceiling_kib_s=self.bucket.rate_bit_s / 8 / 1024 * SYMBOL_BYTES / WIRE_BYTES,
            source_symbols=counters.source_symbols,
            repair_symbols=counters.repair_symbols,
            ended_count=sent.ended_count,  # before the slabs: one more of them does no harm
            ended=tuple(sent.ended),
            members=dict(self.members),
        )

    # ---- input

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """Feedback from a receiver; what is not for this session becomes an `Ignored` event."""
        self._feedback.take(data, self._trains.seq - 1, now)

    def handle_timeout(self, now: float) -> None:
        """Withdraw members that have been silent for too long, and repair state that nobody needs."""
        for found in self._membership.note_silence(now):
            self._events.append(found)
            if isinstance(found, MemberForgotten):
                self._orders.withdraw(found.member)
        if now >= self._settle_at or not self._is_lacking():
            self._settle_at = now + SETTLE_S
            self._settle(now)

    def provide_parity(self, slab: int, rows: int) -> None:
        """Parity rows 0 .. rows - 1 of a slab are there now."""
        self._repairs.provide_parity(slab, rows)

    def next_event(self) -> SenderEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self, now: float) -> float | None:
        """When `poll_transmit` or `handle_timeout` has something to do though nothing arrives; None: never."""
        if self._ends_left:
            return max(now, self._end_at)
        if self.has_ended:
            return None
        at = min(self._orders.due_at(), self._work_at(now))
        return max(now, at) if at < math.inf else None

    def _work_at(self, now: float) -> float:
        if not self._is_lacking():
            return self._membership.next_silence()
        starts_at = self.schedule.starts_at(now)  # a BEAT is due often enough to notice the silent, too
        if starts_at is None or now < starts_at:
            return min(self._beat_at, math.inf if starts_at is None else starts_at)
        return self._beat_at if self._is_held else min(self._beat_at, self.bucket.ready_at(now))

    # ---- output

    def poll_transmit(self, now: float) -> Train | Beat | Ncf | Control | None:
        """What to send next, or None until `next_timeout` or feedback."""
        if self._ends_left:
            return self._next_end(now)
        if order := self._orders.take(now):
            return self._announcements.control(self._trains.seq - 1, *order)
        if self.has_ended or not self._is_lacking():
            return None
        if now >= self._beat_at:
            return self._next_beat(now)
        if not self._has_started(now) or self.bucket.ready_at(now) > now:
            return None
        if self._repairs.has_raised and now >= self._ncf_at and (ncf := self._next_ncf(now)):
            return ncf
        if self.is_sealed and self._trains.seq > LAST_SEALED_SEQ:
            self.end()
            return self._next_end(now)
        return self._next_train_or_beat(now)

    def _next_train_or_beat(self, now: float) -> Train | Beat | None:
        train = self._trains.next_train(now)
        self._is_held = train is None
        if train is not None:
            self._is_waiting = False
            self.bucket.spend(train.count * WIRE_BYTES)
        elif self._brake.waiting:
            self.counters.credit_stalls = self._brake.waiting.stalls
            self._beat_at = min(self._beat_at, now + WAITING_BEAT_S)  # what it lacks may be a tail that was lost
        elif not self._is_waiting:
            self._is_waiting = True
            return self._next_beat(now)
        return train

    def _next_beat(self, now: float) -> Beat:
        self._beat_at = now + (WAITING_BEAT_S if self._is_waiting else BEAT_S)
        self.counters.beats += 1
        return self._announcements.beat(
            now,
            self._trains.seq - 1,
            len(self.members),
            max(self._carousel.position, 0),
            self.pass_number,
            [m.member for m in self._membership.representatives(now)],
            # Who waits for free slab buffers is at the end of a slab, whose tail may be lost, as is a whole pass's.
            is_end_of_pass=self._is_waiting or Wait.SLABS in self._brake.waiting,
        )

    def _next_ncf(self, now: float) -> Ncf | None:
        """What is pending of the slabs for which more was asked: whoever lacks no more need not ask. Where there is one
        member alone nobody else could."""
        raised = self._repairs.take_raised(MAX_NACK_SLABS)
        if len(self._membership.wanting) < 2 or not raised:
            return None
        self._ncf_at = now + NCF_GAP_S
        self.counters.ncfs += 1
        ncf = self._announcements.ncf(now, self._trains.seq - 1, len(self.members), raised)
        self.bucket.spend(len(ncf.encode()) + WIRE_OVERHEAD_BYTES)
        self._is_held = False  # the repairs follow as soon as the bucket allows: not with the next BEAT
        return ncf

    def _next_end(self, now: float) -> Control | None:
        if now < self._end_at:
            return None
        self._ends_left -= 1
        self._end_at = now + END_GAP_S
        self.has_ended = self._ends_left == 0
        return self._announcements.control(self._trains.seq - 1, ControlCode.END, ControlReason.NONE, ())

    def _settle(self, now: float = math.inf) -> None:
        self._events.extend(map(SlabSettled, self._trains.settle(now)))
