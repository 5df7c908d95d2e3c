# SPDX-License-Identifier: Apache-2.0
"""What a sender knows of its receivers, which slabs are still on their way to one of them, and whether to wait for it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import MAX_ECHO_DELAY_US, Report, Tally
from dpd.protocol.multicast.pacing import MIN_CREDIT, Allowance, Credit, RoundTrip, Standing

MAX_ROUND_TRIP_US = 10_000_000
SLABS_REMEMBERED = 4096  # 23 GB: far more than any receiver's report lags behind
_NOT_YET = 1 << 62
SLAB_SYMBOLS = ROWS * COLUMNS
REPAIR_SHARE = 0.5  # of a slab, for each that is verified: a third of loss
FREE_SHARE, FREE_SLABS = 0.25, 16
LOSS_SYMBOLS = 4096  # a slab: what a loss is averaged over
LOSS_WEIGHT = 32.0  # 3 % of loss is as bad as half the window
MAX_REPORT_SYMBOLS = 1 << 31


@dataclass(slots=True)
class Member:
    """One receiver. Slab sets are integers: bit n is slab n."""

    member: int
    credit: Credit
    standing: Standing
    free_slabs: int
    verified: int
    is_complete: bool
    heard_at: float
    held: int = 0
    reported_seen: int = -1  # what `verified` and `held` take into account; NACKs move only the credit
    is_live: bool = True
    round_trip: RoundTrip = field(default_factory=RoundTrip)
    tally: Tally = field(default_factory=Tally)
    nacks: int = 0
    blame: int = 0  # symbols of repair that were sent because of its NACKs
    joined_at: float = 0.0
    reported_at: float = 0.0  # when the latest REPORT came
    buffered: int = MIN_CREDIT  # symbols that its socket buffer holds, as told in the join
    slab_count: int = 0  # of the object
    verified_before: int = 0  # slabs that it had when it joined
    is_leaving: bool = False  # it has its orders
    holds: bool = True  # as a representative it is waited for
    loss: float = 0.0  # share of symbols that the network lost on the way to it, lately

    @property
    def is_wanting(self) -> bool:
        """Whether the sender still works for it."""
        return self.is_live and not self.is_complete and not self.is_leaving

    @property
    def is_greedy(self) -> bool:
        """Whether it has asked for more repair than an honest receiver with a third of loss would, by what it verified
        since. The first slabs are free, since none is verified while they are repaired."""
        verified = self.verified.bit_count() - self.verified_before
        free = max(FREE_SHARE * min(self.slab_count, FREE_SLABS), 1)
        return self.blame > SLAB_SYMBOLS * (free + REPAIR_SHARE * verified)

    def could_go_on(self, last_seq: int) -> bool:
        """Whether waiting for others costs it something: it has taken in more than half of what it may have under way, of
        the symbols up to `last_seq`. One with less is at work; which of several reports first is chance."""
        return self.holds and 2 * (last_seq - self.credit.seen) <= self.credit.limit

    def appoint(self) -> None:
        """It becomes a representative. One that reported before is waited for once it has answered to that: of many that
        died at the same time the first ones cost the session a second, and their followers nothing."""
        self.holds = self.heard_at == self.joined_at

    def strength(self) -> float:
        """How well it will keep up: the weakest members are the representatives."""
        if self.standing.is_hopeless:
            return math.inf
        strength = self.credit.limit / (1.0 + LOSS_WEIGHT * self.loss)
        return strength if self.free_slabs else strength / 2

    def hear(self, seen: int, now: float) -> None:
        """Feedback came, and says that everything up to `seen` was taken out of the socket."""
        self.heard_at = now
        self.is_live = True
        self.holds = True
        if self.credit.update(seen):
            self.standing.progress()

    def take_report(self, report: Report, seen: int, every_slab: int, now: float) -> None:
        """The whole state of the receiver, as of `seen`. A late report does not turn anything back."""
        if report.verified & ~self.verified:
            self.verified |= report.verified
            self.is_complete = self.verified == every_slab
            self.standing.progress()
        if seen < self.reported_seen:
            return
        self.reported_seen = seen
        self.reported_at = now
        self.held = sum(1 << slab for slab in set(report.held))
        self.free_slabs = report.free_slabs
        self.credit.limit = max(report.window, MIN_CREDIT) if report.window else self.buffered
        self._count_loss(report.tally)
        self.tally = report.tally
        elapsed_us = (int(now * 1e6) - report.echo_time - report.echo_delay_us) & 0xFFFFFFFF
        if report.echo_time and report.echo_delay_us < MAX_ECHO_DELAY_US and elapsed_us < MAX_ROUND_TRIP_US:
            self.round_trip.update(elapsed_us / 1e6)

    def _count_loss(self, tally: Tally) -> None:
        """Symbols lost since the report before, weighed by their number against what was known."""
        lost = (tally.lost - self.tally.lost) & 0xFFFFFFFF
        received = (tally.received - self.tally.received) & 0xFFFFFFFF
        if 0 < lost + received < MAX_REPORT_SYMBOLS:  # else it counts anew
            weight = (lost + received) / (lost + received + LOSS_SYMBOLS)
            self.loss += (lost / (lost + received) - self.loss) * weight


class SlabsSent:
    """The slabs that were sent, latest last, by the sequence numbers of their first and last symbols."""

    def __init__(self) -> None:
        self._slabs: deque[tuple[int, int, int]] = deque(maxlen=SLABS_REMEMBERED)
        self._last: dict[int, int] = {}  # the last symbol of a slab's latest turn
        self.ever = 0  # slab set
        self.ended: deque[int] = deque(maxlen=SLABS_REMEMBERED)
        self.ended_count = 0

    def begin(self, slab: int, first_seq: int) -> None:
        """A slab starts; until `end` nobody can have seen its last symbol."""
        self._slabs.append((first_seq, _NOT_YET, slab))
        self._last[slab] = _NOT_YET
        self.ever |= 1 << slab

    def end(self, last_seq: int) -> None:
        """The slab that started last is all sent."""
        first_seq, _, slab = self._slabs.pop()
        self._slabs.append((first_seq, last_seq, slab))
        self._last[slab] = last_seq
        self.ended.append(slab)
        self.ended_count += 1

    def on_the_way(self, member: Member) -> int:
        """Slab set: what was sent to a member, wholly or in part, behind its last report."""
        slabs = 0
        for _, last_seq, slab in reversed(self._slabs):
            if last_seq <= member.reported_seen:
                break
            slabs |= 1 << slab
        return slabs

    def begun_for(self, member: Member) -> int:
        """How many slabs that a member lacks have been started since its last report: each may have taken a buffer."""
        count = 0
        for first_seq, _, slab in reversed(self._slabs):
            if first_seq <= member.reported_seen:
                break
            count += not member.verified >> slab & 1
        return count

    def lacking(self, member: Member) -> int:
        """Slab set, with bits beyond the last slab: what a member neither verified, nor holds, nor may still get from what
        is on the way."""
        # A slab that was never sent cannot be held: a damaged datagram made the receiver think so.
        return ~(member.verified | member.held & self.ever | self.on_the_way(member))

    def is_lacked(self, slab: int, member: Member) -> bool:
        """Whether `lacking` has this slab."""
        if (member.verified | member.held & self.ever) >> slab & 1:
            return False
        return self._last.get(slab, -1) <= member.reported_seen

    def is_in_repair(self, slab: int, member: Member) -> bool:
        """Whether a member has this slab in assembly, or may have by its next report, and not verified."""
        if member.verified >> slab & 1:
            return False
        return bool(member.held >> slab & 1) or self._last.get(slab, -1) > member.reported_seen


class Wait(Enum):
    """Why a sender holds back although it has something to send."""

    CREDIT = "a receiver's socket buffer is full"
    SLABS = "a receiver has no free slab buffer"


class Waiting:
    """What the session waits for, and since which look at it. `stalls` counts how often it began to."""

    def __init__(self) -> None:
        self.stalls = 0
        self.allowance = Allowance()
        self._since: dict[Wait, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def __contains__(self, why: Wait) -> bool:
        return why in self._since

    def end(self, why: Wait) -> None:
        self._since.pop(why, None)

    def must_wait(self, why: Wait, without_room: list[Member], is_shared: bool, now: float) -> bool:
        """Whether one of those `without_room` is to be waited for; `is_shared`: nobody else could well go on. Accounts for
        the time since the last look."""
        if not self._since:
            self.allowance.earn(now)
        since = self._since.pop(why, now)
        self.allowance.spend(0.0 if is_shared else now - since, now)
        waits = [m.standing.waits(now - since) for m in without_room]  # each accounts for the time
        if any(waits) and (is_shared or self.allowance.left_s > 0):
            self._since[why] = now
            self.stalls += since == now
            return True
        return False
