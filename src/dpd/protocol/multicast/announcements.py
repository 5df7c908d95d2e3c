# SPDX-License-Identifier: Apache-2.0
"""What a sender says in its stream's name: the headers of its symbols, BEAT, NCF and CONTROL."""

from __future__ import annotations

from collections.abc import Sequence

from dpd.protocol.multicast.message import (
    Beat,
    Control,
    Flag,
    Header,
    MessageType,
    Ncf,
    SlabDeficits,
)

MIN_NACK_MS, MAX_NACK_MS = 2, 50
MEMBERS_PER_NACK_MS = 20


def nack_ms(members: int) -> int:
    """Width of the NACK back-off in a group of so many."""
    return min(max(members // MEMBERS_PER_NACK_MS, MIN_NACK_MS), MAX_NACK_MS)


class Announcements:
    """`seq` arguments are that of the first symbol, or for messages without one that of the latest."""

    def __init__(self, session: int, epoch: int, speed_class: int, *, is_sealed: bool) -> None:
        self._session = session
        self._epoch = epoch
        self._speed_class = speed_class
        self._symbol_flags = Flag.SEALED if is_sealed else 0

    def header(
        self,
        kind: MessageType,
        now: float,
        seq: int,
        members: int,
        slab: int = 0,
        row: int = 0,
        flags: int = 0,
        column: int = 0,
        promised: int = 0,
    ) -> Header:
        """Fields in the order of their interest here. `members` in the group sets the back-off."""
        if kind is MessageType.DATA or kind is MessageType.PARITY:
            flags |= self._symbol_flags
        return Header(
            kind,
            self._session,
            self._epoch,
            flags,
            slab,
            row,
            column,
            self._speed_class,
            seq,
            int(now * 1e6),
            promised,
            nack_ms(members),
        )

    def beat(
        self,
        now: float,
        seq: int,
        members: int,
        position: int,
        pass_number: int,
        representatives: Sequence[int],
        *,
        is_end_of_pass: bool,
    ) -> Beat:
        """`representatives` by their ids."""
        flags = Flag.END_OF_PASS if is_end_of_pass else 0
        header = self.header(MessageType.BEAT, now, seq, members, position, 0, flags)
        return Beat(header, position, pass_number, members, tuple(m & 0xFFFFFFFF for m in representatives))

    def ncf(self, now: float, seq: int, members: int, pending: Sequence[tuple[int, bytes]]) -> Ncf:
        """`pending`: slabs, one at least, and what will be sent of each column."""
        header = self.header(MessageType.NCF, now, seq, members, pending[0][0])
        return Ncf(header, tuple(SlabDeficits(*each) for each in pending))

    def control(self, seq: int, code: int, reason: int, members: Sequence[int]) -> Control:
        """`members` by their ids."""
        header = Header(
            MessageType.CONTROL, self._session, self._epoch, row=code, speed_class=self._speed_class, tx_seq=seq
        )
        return Control(header, reason, tuple(m & 0xFFFFFFFF for m in members))
