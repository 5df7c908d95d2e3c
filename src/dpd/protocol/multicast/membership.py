# SPDX-License-Identifier: Apache-2.0
"""The members of a session: who is worked for, who is waited for, and who has fallen silent.

Representatives are those with whom the session stands or falls: they report fast, and the sender keeps within their
credit. They are the weakest members (small windows, losses, slow disks), since who keeps up with these keeps up with all.
A member once chosen is left only for one that is clearly weaker, or the choice would follow chance.
"""

from __future__ import annotations

import math
from heapq import nsmallest

from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import MAX_REPRESENTATIVES
from dpd.protocol.multicast.sender_events import MemberForgotten, MemberSilent

FORGET_TIMEOUTS = 6  # a member silent for this many timeouts is forgotten; whoever is still there joins again
RANK_S = 0.25  # between two choices of representatives
FULL_GROUP = 250  # members up to which MAX_REPRESENTATIVES report fast
MIN_REPRESENTATIVES = 8
HYSTERESIS = 0.75  # a challenger must be a quarter weaker (PGMCC's figure, and that of WDS)


def representative_count(members: int) -> int:
    """How many report fast in a group of so many. Up to 250 members: 16, reporting 80 times a second each; a thousand:
    8, at 20 a second, beside 250 reports of the others. The rest of the 1000 a second is for NACKs."""
    if members <= FULL_GROUP:
        return MAX_REPRESENTATIVES
    return max(MAX_REPRESENTATIVES * FULL_GROUP // members, MIN_REPRESENTATIVES)


class Membership:
    """`members` by id. What is derived from them is kept until something changes: nothing here is done for each train.

    Measured on one shared core of a virtual machine, CPython 3.11: a train costs the sender 18 us with one member and 20
    with a thousand; there a join costs 6 us and a REPORT 16.
    """

    def __init__(self, timeout_s: float) -> None:
        self.members: dict[int, Member] = {}
        self._timeout_s = timeout_s
        self._wanting: list[Member] | None = None
        self._representatives: list[Member] = []
        self._rank_at = -math.inf
        self._silent_at = -math.inf  # nobody can be found silent before

    def add(self, member: Member) -> None:
        wanting = self._wanting
        is_new = member.member not in self.members
        self.members[member.member] = member
        self.touch()
        if wanting is not None and is_new:  # a thousand may join at once: no look at all the others for each of them
            wanting += [member] * member.is_wanting
            self._wanting = wanting

    def remove(self, member: int) -> bool:
        """True: there was one of that name."""
        self.touch()
        return self.members.pop(member, None) is not None

    def touch(self) -> None:
        """Somebody wants more, or nothing any longer."""
        self._wanting = None
        self._rank_at = self._silent_at = -math.inf

    @property
    def wanting(self) -> list[Member]:
        """Those that the sender works for."""
        if self._wanting is None:
            self._wanting = [m for m in self.members.values() if m.is_wanting]
        return self._wanting

    def representatives(self, now: float) -> list[Member]:
        """Those who report fast and are waited for: the weakest of those who want something."""
        if now >= self._rank_at:
            self._rank(now)
        return self._representatives

    def _rank(self, now: float) -> None:
        self._rank_at = now + RANK_S
        before = {m.member for m in self._representatives}
        wanting = self.wanting
        count = representative_count(len(wanting))
        if len(wanting) > count:
            wanting = nsmallest(
                count, wanting, key=lambda m: m.strength() * (HYSTERESIS if m.member in before else 1.0)
            )
        for member in wanting:
            if member.member not in before:
                member.appoint()
        self._representatives = list(wanting)

    def note_silence(self, now: float) -> list[MemberSilent | MemberForgotten]:
        """Withdraw from those not heard for too long, and forget those not heard for much longer."""
        if now <= self._silent_at:
            return []
        found: list[MemberSilent | MemberForgotten] = []
        for member in list(self.members.values()):
            silent_s = now - member.heard_at
            if member.is_live and silent_s > self._timeout_s:
                member.is_live = False
                found.append(MemberSilent(member.member))
            elif silent_s > FORGET_TIMEOUTS * self._timeout_s:
                del self.members[member.member]
                found.append(MemberForgotten(member.member))
        if found:
            self.touch()
        self._silent_at = self.next_silence()
        return found

    def next_silence(self) -> float:
        """When `note_silence` may find one, at the earliest; infinity: there are no members."""
        return min(
            (m.heard_at + (1 if m.is_live else FORGET_TIMEOUTS) * self._timeout_s for m in self.members.values()),
            default=math.inf,
        )
