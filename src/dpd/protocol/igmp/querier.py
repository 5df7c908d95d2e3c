# SPDX-License-Identifier: Apache-2.0
"""The querier of a network: who asks for group memberships, elected as RFC 3376 says.

Theory of operation. A network needs one querier: switches that snoop forget a group that nobody reports for some
minutes, and hosts report when they are asked. Every candidate starts as the querier and asks at once (6.6.2, 8.6); one
that hears a query from a lower address falls silent (NON_QUERIER) and takes over when none was heard for the other
querier present interval. Queries from 0.0.0.0 are a switch's stopgap and count in no election (RFC 4541, 2.1.1).

Beyond general queries the querier asks twice for a group that a host has just left (6.4.2), so that a port which
nobody listens at gets no more of it. A router of version 2 or 1 that takes part makes all queries version 2 (7.3.1).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import TypeAlias

from dpd.errors import MalformedMessage
from dpd.protocol.igmp.message import (
    ALL_SYSTEMS,
    EVERY_GROUP,
    Leave,
    Message,
    Query,
    RecordType,
    Report,
    decode_packet,
)
from dpd.protocol.machine import Address, Buffer, Transmit

MAX_LEFT_GROUPS = 64  # asked after at once; a flood of leaves costs no more than this many queries a second
NO_ADDRESS = "0.0.0.0"
LINK_LOCAL = "224.0.0."  # passed on by every switch whatever anybody reports; RFC 4541, 2.1.2


class State(Enum):
    """RFC 3376, 6.6.2."""

    QUERIER = "querier"
    NON_QUERIER = "non_querier"


@dataclass(frozen=True, slots=True)
class Intervals:
    """Timers, with the defaults of RFC 3376, 8."""

    robustness: int = 2
    query_s: float = 125.0
    response_s: float = 10.0
    last_member_s: float = 1.0

    @property
    def startup_s(self) -> float:
        """Between the first queries, `robustness` of them; 8.6."""
        return self.query_s / 4

    @property
    def other_querier_s(self) -> float:
        """Silence after which a querier is gone; 8.5."""
        return self.robustness * self.query_s + self.response_s / 2


@dataclass(frozen=True, slots=True)
class Elected:
    """We ask from now on. `silent` is the querier that was heard no more; empty at the start."""

    silent: str = ""


@dataclass(frozen=True, slots=True)
class Yielded:
    """Another one asks; we are silent."""

    querier: str


@dataclass(frozen=True, slots=True)
class OlderVersion:
    """A router of an older IGMP takes part; our queries are version 2 while it does."""

    router: str
    version: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A packet that changed nothing, and why; a closed label for counters."""

    reason: str


Fact: TypeAlias = Elected | Yielded | OlderVersion | Ignored


class Querier:
    """One candidate on one network. Packets come as the raw socket has them, IPv4 header included."""

    def __init__(self, address: str, now: float, intervals: Intervals | None = None) -> None:
        self.state = State.QUERIER
        self.querier = address
        self._address = address
        self._own = intervals or Intervals()
        self._adopted = self._own  # robustness and interval of the querier in charge; 4.1.6, 4.1.7
        self._startup_left = self._own.robustness
        self._due_at = now
        self._other_until = 0.0
        self._old_until = 0.0
        self._left: dict[str, tuple[int, float]] = {}  # group: queries to come, the next one's time
        self._events: deque[Fact] = deque([Elected()])

    def change_address(self, address: str) -> None:
        """The interface has another address now; elections go on with it."""
        if self.state is State.QUERIER:
            self.querier = address
        self._address = address

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """One IPv4 packet; `source` is what the socket says, the header counts."""
        try:
            packet = decode_packet(data)
        except MalformedMessage as error:
            self._events.append(Ignored(f"malformed_{error.reason}"))
            return
        if packet.source == self._address:
            return
        if packet.ttl != 1:  # every IGMP message has it, so this one came through a router; 4
            self._events.append(Ignored("ttl"))
        elif isinstance(packet.message, Query):
            self._hear_query(packet.message, packet.source, now)
        else:
            self._hear_member(packet.message, now)

    def _hear_query(self, query: Query, source: str, now: float) -> None:
        if source == NO_ADDRESS:
            self._events.append(Ignored("no_source"))
            return
        self._note_version(query, source, now)
        if IPv4Address(source) > IPv4Address(self._address):
            self._events.append(Ignored("higher_address"))
            return
        if query.group == EVERY_GROUP:
            self._adopt(query)
        is_news = self.querier != source
        self.state, self.querier = State.NON_QUERIER, source
        self._other_until = now + self._adopted.other_querier_s
        self._left.clear()
        if is_news:
            self._events.append(Yielded(source))

    def _note_version(self, query: Query, source: str, now: float) -> None:
        if query.version < 3:
            if now >= self._old_until:
                self._events.append(OlderVersion(source, query.version))
            self._old_until = now + self._own.other_querier_s

    def _adopt(self, query: Query) -> None:
        """A querier's values hold for all; 0 is one that does not say."""
        own = self._own
        self._adopted = Intervals(
            robustness=query.robustness or own.robustness,
            query_s=float(query.interval_s) or own.query_s,
            response_s=query.max_response_s,
            last_member_s=own.last_member_s,
        )

    def _hear_member(self, message: Message, now: float) -> None:
        if self.state is not State.QUERIER:
            return
        for group in _groups_left(message):
            if group.startswith(LINK_LOCAL) or group in self._left:
                continue
            if len(self._left) < MAX_LEFT_GROUPS:
                self._left[group] = (self._own.robustness, now)

    def handle_timeout(self, now: float) -> None:
        """A querier that fell silent is gone."""
        if self.state is State.NON_QUERIER and now >= self._other_until:
            self._events.append(Elected(silent=self.querier))
            self.state, self.querier = State.QUERIER, self._address
            self._adopted, self._due_at = self._own, now

    def poll_transmit(self, now: float) -> Transmit | None:
        """The next query that is due; what carries it sets TTL 1 and the router alert."""
        if self.state is State.NON_QUERIER:
            return None
        if now >= self._due_at:
            self._startup_left = max(0, self._startup_left - 1)
            self._due_at = now + (self._own.startup_s if self._startup_left else self._own.query_s)
            return self._query(EVERY_GROUP, self._own.response_s, ALL_SYSTEMS, now)
        for group, (left, due_at) in self._left.items():
            if now >= due_at:
                self._left[group] = (left - 1, now + self._own.last_member_s)
                if left == 1:
                    del self._left[group]
                return self._query(group, self._own.last_member_s, group, now)
        return None

    def _query(self, group: str, response_s: float, destination: str, now: float) -> Transmit:
        is_old = now < self._old_until
        query = Query(
            group=group,
            max_response_s=response_s,
            version=2 if is_old else 3,
            robustness=self._own.robustness,
            interval_s=round(self._own.query_s),
        )
        return Transmit((query.encode(),), (destination, 0))

    def next_event(self) -> Fact | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        if self.state is State.NON_QUERIER:
            return self._other_until
        return min([self._due_at, *(due_at for _, due_at in self._left.values())])


def _groups_left(message: Message) -> list[str]:
    """Groups that somebody may have been the last member of. A source that is no longer wanted (BLOCK) ends nothing here:
    the switch forgets it with the next general query's answers."""
    if isinstance(message, Leave):
        return [message.group]
    if isinstance(message, Report):
        return [r.group for r in message.records if r.type is RecordType.TO_INCLUDE and not r.sources]
    return []
