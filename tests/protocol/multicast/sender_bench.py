# SPDX-License-Identifier: Apache-2.0
"""A sender alone, with feedback written by hand, and everything that came out of it."""

from __future__ import annotations

from collections.abc import Iterable

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.message import (
    HEADER_BYTES,
    Beat,
    Control,
    Header,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Tally,
    decode_header,
)
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import (
    Ignored,
    ParityNeeded,
    Sender,
    Train,
)

SESSION, EPOCH = 77, 5
QUIET_S = 0.25
TIMEOUT_S = 10.0
FROM = ("192.0.2.1", 4000)
ONE_EACH = b"\x01" * COLUMNS


class Bench:
    """A sender, a clock, and everything that came out of it. Parity is there as soon as it is asked for, unless
    `is_parity_late`."""

    def __init__(
        self, slabs: int = 3, rows_of_last: int = 2, rate_bit_s: float = 0.0, *, is_sealed: bool = False
    ) -> None:
        self.is_parity_late = False
        self.geometry = Geometry((slabs - 1) * SLAB_BYTES + rows_of_last * ROW_BYTES)
        self.bucket = TokenBucket(rate_bit_s, ROW_BYTES, 0.0)
        self.sender = Sender(
            session=SESSION, epoch=EPOCH, geometry=self.geometry, bucket=self.bucket,
            member_timeout_s=TIMEOUT_S, schedule=Schedule(QUIET_S, 4 * QUIET_S), is_sealed=is_sealed, speed_class=2,
        )  # fmt: skip
        self.now = 0.0
        self.trains: list[Train] = []
        self.beats: list[tuple[float, Beat]] = []
        self.ncfs: list[tuple[float, Ncf]] = []
        self.controls: list[Control] = []
        self.facts: list[object] = []

    def join(self, member: int = 1, *, verified: int = 0, credit: int = 1 << 20, free_slabs: int = 1000) -> None:
        """A receiver joins, and tells in its first REPORT that it has nothing to say about a window."""
        self.sender.add_member(member, verified=verified, credit=credit, free_slabs=free_slabs, now=self.now)
        self.report(member, verified=verified, free=free_slabs)

    def pump(self, seconds: float = 0.0) -> list[Train]:
        """Let the sender do all it wants for a time. Returns the new trains."""
        before, end = len(self.trains), self.now + seconds
        while True:
            self.sender.handle_timeout(self.now)
            while out := self.sender.poll_transmit(self.now):
                if isinstance(out, Train):
                    self.trains.append(out)
                elif isinstance(out, Beat):
                    self.beats.append((self.now, out))
                elif isinstance(out, Ncf):
                    self.ncfs.append((self.now, out))
                else:
                    self.controls.append(out)
                self._take_events()
            if self._take_events():
                continue
            due = self.sender.next_timeout(self.now)
            if due is None or due > end:
                self.now = end
                return self.trains[before:]
            self.now = max(due, self.now + 1e-6)

    def pump_controls(self, seconds: float) -> list[Control]:
        """The orders that are said meanwhile."""
        before = len(self.controls)
        self.pump(seconds)
        return self.controls[before:]

    def _take_events(self) -> bool:
        asked = False
        while event := self.sender.next_event():
            self.facts.append(event)
            if isinstance(event, ParityNeeded) and not self.is_parity_late:
                self.sender.provide_parity(event.slab, event.first + event.count)
                asked = True
        return asked

    @property
    def seq(self) -> int:
        """The tx_seq of the last symbol sent."""
        return decode_header(self.trains[-1].headers[-HEADER_BYTES:]).tx_seq if self.trains else -1

    def report(
        self, member: int = 1, *, verified: int = 0, held: Iterable[int] = (), free: int = 1000, seen: int | None = None
    ) -> None:
        header = Header(MessageType.REPORT, SESSION, EPOCH)
        seen = self.seq if seen is None else seen
        count = self.geometry.slab_count
        self.hear(Report(header, member, seen, 0, 0, free, Tally(), tuple(held), 0, count, verified))

    def nack(self, slab: int, deficits: bytes = ONE_EACH, member: int = 1, seen: int | None = None) -> None:
        header = Header(MessageType.NACK, SESSION, EPOCH)
        self.hear(Nack(header, member, self.seq if seen is None else seen, (SlabDeficits(slab, deficits),)))

    def hear(self, message: Nack | Report | Beat) -> None:
        self.sender.receive_datagram(message.encode(), FROM, self.now)

    def reasons(self) -> list[str]:
        self._take_events()
        return [fact.reason for fact in self.facts if isinstance(fact, Ignored)]


def rows(trains: Iterable[Train]) -> list[tuple[int, int]]:
    """(slab, row) of the trains that are whole source rows in their turn."""
    return [(train.slab, train.row + i) for train in trains for i in range(train.rows)]


def headers(train: Train) -> list[Header]:
    return [decode_header(train.headers[i : i + HEADER_BYTES]) for i in range(0, len(train.headers), HEADER_BYTES)]


WHOLE_OBJECT = [(0, row) for row in range(ROWS)] + [(1, row) for row in range(ROWS)] + [(2, 0), (2, 1)]
