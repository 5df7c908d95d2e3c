# SPDX-License-Identifier: Apache-2.0
"""What holds a sender back beside its ceiling: the room that representatives have, and for how long they are waited for."""

from __future__ import annotations

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.member import Member, SlabsSent, Wait, Waiting
from dpd.protocol.multicast.membership import Membership

# Between two trains to receivers none of whom shows progress: while the only one stood still for 5 s, all the rest of 72 MiB left
# for nobody at 200 Mbit/s, and then again.
PROBE_S = 0.05
WINDOW_SHARE = 8  # several rows that leave at once are no more than one part in so many of anybody's window


class Brake:
    """`waiting` tells what it waits for at the moment."""

    def __init__(self, membership: Membership) -> None:
        self.waiting = Waiting()
        self._membership = membership
        self._probed_at = float("-inf")

    def holds_train(self, latest_seq: int, now: float) -> bool:
        """Whether to wait for room for one more train behind the symbol `latest_seq`."""
        last_seq = latest_seq + COLUMNS
        without_room = [
            m for m in self._membership.representatives(now) if last_seq - m.credit.seen > m.credit.limit and m.holds
        ]
        if not without_room and not self.waiting:
            return False
        if self._must_wait(Wait.CREDIT, without_room, latest_seq, now):
            return True
        return self._are_all(without_room, now) and not self._may_probe(now)

    def holds_slab(self, sent: SlabsSent, latest_seq: int, now: float) -> bool:
        """Whether to wait for a free slab buffer."""
        holding = [m for m in self._membership.representatives(now) if m.holds]
        without_room = [m for m in holding if sent.begun_for(m) >= m.free_slabs]
        return self._must_wait(Wait.SLABS, without_room, latest_seq, now)

    def _must_wait(self, why: Wait, without_room: list[Member], latest_seq: int, now: float) -> bool:
        others = (m for m in self._membership.representatives(now) if m not in without_room)
        is_shared = not any(m.could_go_on(latest_seq) for m in others)
        return self.waiting.must_wait(why, without_room, is_shared, now)

    def _are_all(self, without_room: list[Member], now: float) -> bool:
        return bool(without_room) and len(without_room) == len(self._membership.representatives(now))

    def _may_probe(self, now: float) -> bool:
        if now - self._probed_at < PROBE_S:
            return False
        self._probed_at = now
        return True

    def rows_allowed(self, most: int, latest_seq: int, now: float) -> int:
        """How many rows, at most `most`, may leave at once."""
        for member in self._membership.representatives(now):
            if member.holds:
                limit = member.credit.limit
                room = limit - (latest_seq - member.credit.seen)
                most = min(most, room // COLUMNS, limit // (WINDOW_SHARE * COLUMNS))
        return most
