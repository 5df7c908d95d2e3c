# SPDX-License-Identifier: Apache-2.0
"""Trains out of carousel and repairs: whose turn it is, how many symbols, their numbers and headers, and what of it is
remembered for NACKs to come."""

from __future__ import annotations

import math
from dataclasses import replace

from dpd.protocol.multicast.announcements import Announcements, nack_ms
from dpd.protocol.multicast.brake import Brake
from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.geometry import COLUMNS, ROWS, Geometry
from dpd.protocol.multicast.member import Wait
from dpd.protocol.multicast.membership import Membership
from dpd.protocol.multicast.message import Flag, Header, MessageType
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.promise import Promise
from dpd.protocol.multicast.repair import RepairQueue
from dpd.protocol.multicast.sender_events import SenderCounters
from dpd.protocol.multicast.train import Train
from dpd.protocol.multicast.train_headers import encode_repair_headers, encode_row_headers

NACK_GRACE_S = 0.01  # reordering, and a receiver busy with something else


class TrainWriter:
    """`seq` is the number of the next symbol."""

    def __init__(
        self,
        geometry: Geometry,
        membership: Membership,
        carousel: Carousel,
        repairs: RepairQueue,
        brake: Brake,
        bucket: TokenBucket,
        announcements: Announcements,
        counters: SenderCounters,
    ) -> None:
        self.seq = 0
        self._geometry = geometry
        self._membership = membership
        self._carousel = carousel
        self._repairs = repairs
        self._brake = brake
        self._bucket = bucket
        self._announcements = announcements
        self._counters = counters
        self._promise = Promise()
        self._repaired_last = False

    def next_train(self, now: float) -> Train | None:
        """Repairs and new rows take turns; either goes on alone when the other has nothing."""
        if self._brake.holds_train(self.seq - 1, now):
            return None
        if self.seq & 0xFFFFFFFF > 0x1_0000_0000 - COLUMNS:
            self.seq += -self.seq & (COLUMNS - 1)  # headers of a train are numbered without a carry: none may wrap
        turns = [self._next_row, self._next_repair] if self._repaired_last else [self._next_repair, self._next_row]
        train = turns[0](now) or turns[1](now)
        self._repaired_last = train is not None and train.is_repair
        return train

    def _next_row(self, now: float) -> Train | None:
        """A source row, or a parity row that was promised, or a part of one."""
        carousel = self._carousel
        if carousel.is_done and not self._start_next_slab(now):
            return None
        if (most := self._rows_allowed(now)) > 1 and (rows := self._next_rows(most, now)):
            return rows
        limit = self._bucket.train_symbols
        promised = carousel.promised
        is_late = bool(promised) and carousel.ends_source_with(limit) and not self._keep_promise()
        row, column, count = carousel.take(limit)
        is_last = carousel.is_done
        kind = MessageType.DATA if row < ROWS else MessageType.PARITY
        flags = Flag.END_OF_SLAB if is_last and not is_late else 0
        header = self._header(kind, now, carousel.position, row, flags, column, promised)
        headers = encode_row_headers(header, count)
        self.seq += count
        self._count_row(row, column, count)
        if is_last:
            self._end_slab(promised, now)
        symbols = None if row < ROWS and count == COLUMNS else [(row, c) for c in range(column, column + count)]
        return Train(carousel.position, row, symbols, headers)

    def _rows_allowed(self, now: float) -> int:
        """How many rows may leave at once: one at a time beside repairs, none of them over the wrap."""
        most = min(self._bucket.train_rows, (0x1_0000_0000 - (self.seq & 0xFFFFFFFF)) // COLUMNS)
        if most <= 1 or self._repairs.has_pending:
            return 1
        return self._brake.rows_allowed(most, self.seq - 1, now)

    def _next_rows(self, most: int, now: float) -> Train | None:
        """Several whole source rows; the last of the slab has a flag of its own."""
        carousel = self._carousel
        row, count = carousel.take_rows(most)
        if not count:
            return None
        header = self._header(MessageType.DATA, now, carousel.position, row, 0, promised=carousel.promised)
        headers = encode_row_headers(header, count * COLUMNS)
        if carousel.is_done:
            last = replace(header, row=row + count - 1, tx_seq=self.seq + (count - 1) * COLUMNS)
            ends = encode_row_headers(replace(last, flags=last.flags | Flag.END_OF_SLAB))
            headers = headers[: -len(ends)] + ends
        self.seq += count * COLUMNS
        self._counters.source_symbols += count * COLUMNS
        if carousel.is_done:
            self._end_slab(0, now)
        return Train(carousel.position, row, None, headers)

    def _end_slab(self, promised: int, now: float) -> None:
        carousel = self._carousel
        carousel.sent.end(self.seq - 1)
        self._promise.note_sent(carousel.position, carousel.rows, promised, now + self._feedback_s(now))

    def _keep_promise(self) -> bool:
        """Whether the promised parity is there; if not it follows as repairs, and the next slab need not wait for it."""
        if self._repairs.keep_promise(self._carousel.position):
            return True
        self._carousel.promised = 0
        return False

    def _count_row(self, row: int, column: int, count: int) -> None:
        if row < ROWS:
            self._counters.source_symbols += count
            return
        self._repairs.note_promised(self._carousel.position, column, count, self.seq - 1)
        self._counters.repair_symbols += count
        self._counters.promised_symbols += count

    def _start_next_slab(self, now: float) -> bool:
        slab = self._carousel.choose(self._membership.wanting)
        if slab is None:
            self._brake.waiting.end(Wait.SLABS)
            return False
        if self._brake.holds_slab(self._carousel.sent, self.seq - 1, now):
            return False
        self._promise.receivers = len(self._membership.wanting)
        self._promise.settle(self._repairs.demand, now)
        rows = self._geometry.rows(slab)
        promised, first = self._repairs.promise(slab, rows, self._promise.rows_for(rows))
        self._carousel.begin(slab, self.seq, promised, first)
        return True

    def _feedback_s(self, now: float) -> float:
        """How long after its last symbol a slab's first NACKs may come."""
        round_trip_s = max((m.round_trip.smoothed_s for m in self._membership.representatives(now)), default=0.0)
        return round_trip_s + nack_ms(len(self._membership.members)) / 1000 + NACK_GRACE_S

    def _header(
        self, kind: MessageType, now: float, slab: int, row: int, flags: int, column: int = 0, promised: int = 0
    ) -> Header:
        return self._announcements.header(
            kind, now, self.seq, len(self._membership.members), slab, row, flags, column, promised
        )

    def _next_repair(self, now: float) -> Train | None:
        taken = self._repairs.take(self._bucket.train_symbols)
        if taken is None:
            return None
        slab, repair, symbols = taken
        header = self._header(MessageType.PARITY, now, slab, 0, Flag.REPAIR)
        headers = encode_repair_headers(header, symbols, is_end=not repair.is_pending)
        self.seq += len(symbols)
        repair.note_sent(symbols, self.seq - 1)
        self._counters.repair_symbols += len(symbols)
        return Train(slab, symbols[0][0], symbols, headers, is_repair=True)

    def settle(self, now: float) -> list[int]:
        """Drop the repair state of slabs that no live member has in assembly or on the way; one who joined late and
        gets such a slab again starts with its first parity row. Returns those slabs."""
        wanting, sent, carousel = self._membership.wanting, self._carousel.sent, self._carousel
        in_turn = -1 if carousel.is_done or not wanting else carousel.position
        self._promise.settle(self._repairs.demand, now if wanting else math.inf)
        return self._repairs.settle(
            lambda slab: (
                slab == in_turn or slab in self._promise or any(sent.is_in_repair(slab, member) for member in wanting)
            )
        )
