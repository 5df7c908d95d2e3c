# SPDX-License-Identifier: Apache-2.0
"""What receivers tell their sender, taken in: who is meant, whether it may be believed, what it changes."""

from __future__ import annotations

from collections.abc import Callable

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.geometry import Geometry
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.membership import Membership
from dpd.protocol.multicast.message import Nack, Report, decode_message
from dpd.protocol.multicast.orders import Orders
from dpd.protocol.multicast.repair import RepairQueue
from dpd.protocol.multicast.sender_events import SenderCounters


class Feedback:
    """Feeds NACKs to the repairs and REPORTs to members and carousel. `ignore(reason)` is called for all else."""

    def __init__(
        self,
        session: int,
        epoch: int,
        geometry: Geometry,
        membership: Membership,
        orders: Orders,
        carousel: Carousel,
        repairs: RepairQueue,
        counters: SenderCounters,
        ignore: Callable[[str], None],
    ) -> None:
        self._session = session
        self._epoch = epoch
        self._geometry = geometry
        self._every_slab = geometry.every_slab
        self._membership = membership
        self._orders = orders
        self._carousel = carousel
        self._repairs = repairs
        self._counters = counters
        self._ignore = ignore

    def take(self, data: Buffer, latest_seq: int, now: float) -> None:
        """One datagram, when `latest_seq` was sent last."""
        try:
            message = decode_message(data)
        except MalformedMessage as error:
            self._ignore(error.reason)
            return
        if not isinstance(message, Nack | Report):
            self._ignore("not_feedback")
        elif message.header.session != self._session or message.header.epoch != self._epoch:
            self._ignore("other_session")
        elif (member := self._membership.members.get(message.member)) is None:
            self._ignore("unknown_member")
        elif member.is_leaving:
            member.heard_at = now
            self._orders.remind(member.member, now)
            self._ignore("leaving_member")
        elif isinstance(message, Report) and message.slab_count != self._geometry.slab_count:
            self._ignore("out_of_range")
        else:
            self._believe(member, message, expand(message.seen_seq, latest_seq), now)

    def _believe(self, member: Member, message: Nack | Report, seen: int, now: float) -> None:
        was_wanting = member.is_wanting
        member.hear(seen, now)
        if isinstance(message, Nack):
            self._take_nack(member, message, seen)
        else:
            self._counters.reports += 1
            member.take_report(message, seen, self._every_slab, now)
        if member.is_wanting != was_wanting:
            self._membership.touch()
        if member.is_wanting and (isinstance(message, Report) or not was_wanting):
            self._carousel.note(member)

    def _take_nack(self, member: Member, nack: Nack, seen: int) -> None:
        self._counters.nacks += 1
        member.nacks += 1
        if member.is_greedy and any(m is not member and not m.is_greedy for m in self._membership.wanting):
            self._ignore("greedy_member")  # it is served when those who ask for less have finished
            return
        for asked in nack.slabs:
            if asked.slab >= self._geometry.slab_count or not self._carousel.sent.ever >> asked.slab & 1:
                self._ignore("out_of_range")
            elif not member.verified >> asked.slab & 1:  # else it has crossed the member's own REPORT
                rows = self._geometry.rows(asked.slab)
                member.blame += self._repairs.merge(asked.slab, rows, asked.deficits, seen)


def expand(seq: int, latest_seq: int) -> int:
    """A 32-bit tx_seq from the wire as the full number that was meant: the latest one that was sent. One that was not sent
    yet comes from a forged symbol, beside which its receiver has seen the true ones."""
    behind = (latest_seq - seq) & 0xFFFFFFFF
    return latest_seq - behind if behind <= 0x7FFFFFFF else latest_seq
