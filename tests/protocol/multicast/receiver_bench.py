# SPDX-License-Identifier: Apache-2.0
"""A receiver, a clock, and a sender written by hand: what the tests of the receiver drive."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from dpd.protocol.multicast.authenticity import Verify
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import DATAGRAM_BYTES, Beat, Flag, Header, MessageType, Nack, Report
from dpd.protocol.multicast.receiver import Ignored, Receiver, SlabReady
from dpd.protocol.multicast.train_headers import encode_row_headers

SESSION, EPOCH, MEMBER = 77, 5, 0xABCD_0000_0009
FROM = ("192.0.2.1", 4000)
NACK_MS = 2
EVERY_COLUMN = range(COLUMNS)


class Bench:
    """A receiver, a clock, and the sender's side of the wire. `rows_of_last` rows in the last of `slabs`."""

    def __init__(
        self,
        slabs: int = 3,
        rows_of_last: int = ROWS,
        *,
        slots: int = 4,
        credit: int = 4000,
        verified: int = 0,
        verify: Verify | None = None,
    ) -> None:
        self.geometry = Geometry((slabs - 1) * SLAB_BYTES + rows_of_last * ROW_BYTES)
        self.now = 10.0
        self.seq = 0
        self.machine = Receiver(
            session=SESSION, epoch=EPOCH, member=MEMBER, geometry=self.geometry, verified=verified, slots=slots,
            credit=credit, rng=random.Random(1), now=self.now, verify=verify,
        )  # fmt: skip
        self.nacks: list[Nack] = []
        self.reports: list[Report] = []
        self.facts: list[object] = []
        self.ready: list[SlabReady] = []

    # the wire

    def header(self, slab: int, row: int, *, flags: int = 0, column: int = 0, **changes: int) -> Header:
        kind = MessageType.PARITY if row >= ROWS else MessageType.DATA
        seq = changes.pop("tx_seq", self.seq)
        return replace(
            Header(kind, SESSION, EPOCH, flags, slab, row, column, 0, seq, 1000, 0, NACK_MS),
            **changes,  # type: ignore[arg-type]
        )

    def row(self, slab: int, row: int, *, lost: Iterable[int] = (), whole: bool = True) -> None:
        """One row as it leaves the sender: as one train, or with columns lost as what is left of it."""
        is_last = row == self.geometry.rows(slab) - 1
        headers = encode_row_headers(self.header(slab, row, flags=Flag.END_OF_SLAB if is_last else 0))
        self.seq += COLUMNS
        lost = set(lost)
        kept = [headers[28 * c : 28 * c + 28] + bytes([slab]) * SYMBOL_BYTES for c in EVERY_COLUMN if c not in lost]
        if whole:
            self.train(b"".join(kept))
        else:
            for datagram in kept:
                self.train(datagram)

    def slab(self, slab: int, *, lost: Iterable[int] = (), rows: Iterable[int] | None = None) -> None:
        """A slab, all of it or these rows; `lost` columns of its first row are missing."""
        for row in range(self.geometry.rows(slab)) if rows is None else rows:
            self.row(slab, row, lost=lost if row == 0 else ())

    def repair(self, slab: int, row: int, column: int, *, is_end: bool = True) -> None:
        flags = Flag.REPAIR | (Flag.END_OF_SLAB if is_end else 0)
        self.train(self.header(slab, row, flags=flags, column=column).encode() + bytes(SYMBOL_BYTES))
        self.seq += 1

    def beat(
        self, position: int, *, flags: int = 0, names: tuple[int, ...] = (MEMBER & 0xFFFFFFFF,), **changes: int
    ) -> None:
        tx_seq = changes.pop("tx_seq", (self.seq - 1) & 0xFFFFFFFF)
        header = self.header(position, 0, flags=flags, type=MessageType.BEAT, tx_seq=tx_seq, **changes)
        self.train(Beat(header, position, 1, 1, names).encode())

    def train(self, train: bytes, segment_size: int = 0) -> None:
        size = len(train)
        segment = segment_size or (DATAGRAM_BYTES if size % DATAGRAM_BYTES == 0 else size)
        self.machine.receive_train(bytearray(train), size, segment, self.now)
        self.drive()

    # the owner

    def drive(self) -> None:
        if self.machine.next_timeout() <= self.now:
            self.machine.handle_timeout(self.now)
        while feedback := self.machine.poll_transmit(self.now):
            (self.nacks if isinstance(feedback, Nack) else self.reports).append(feedback)  # type: ignore[arg-type]
        while event := self.machine.next_event():
            (self.ready if isinstance(event, SlabReady) else self.facts).append(event)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.machine.next_timeout()) <= end:
            self.now = max(due, self.now + 1e-6)
            self.drive()
        self.now = end

    def store(self, ok: bool = True) -> None:
        """Answer every SlabReady."""
        for ready in self.ready:
            self.machine.provide_verified(ready.assembly, ok, self.now)
        self.ready.clear()
        self.drive()

    def wanted(self) -> dict[int, int]:
        """Slab -> symbols asked for, in the latest NACK."""
        return {s.slab: sum(s.deficits) for s in self.nacks[-1].slabs} if self.nacks else {}

    def reasons(self) -> list[str]:
        return [fact.reason for fact in self.facts if isinstance(fact, Ignored)]
