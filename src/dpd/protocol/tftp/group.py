# SPDX-License-Identifier: Apache-2.0
"""The server's side of one multicast read (RFC 2090): one stream of blocks for many clients, without sockets, clock or disk.

Theory of operation. Blocks go to the group. The member that has been here longest is the master: its ACK of block n asks
for block n+1. All others listen. Who has everything acknowledges the last block and leaves; the next member becomes the
master by an OACK, and its first ACK says where its first hole is. So a late member hears the rest of the running pass and
then asks for the part it missed, which may close the holes of others as well.

Only the master is waited for. A listener's lost OACK is its own to ask for again, since not every client acknowledges one
that does not make it the master (atftp does not). Block numbers do not wrap, for an ACK may name any block of the file:
what has more than 65535 blocks cannot be read so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer, Transmit
from dpd.protocol.tftp.blocks import Blocks, Extent
from dpd.protocol.tftp.events import ExtentNeeded, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.options import Limits, Terms, negotiate
from dpd.protocol.tftp.packet import (
    HEADER_BYTES,
    Ack,
    Error,
    ErrorCode,
    OptionAck,
    Options,
    ReadRequest,
    decode,
    encode,
)
from dpd.protocol.tftp.retransmission import RetransmissionTimer
from dpd.protocol.tftp.transfer import MAX_STRAYS, UNANSWERED_ATTEMPTS

MAX_BLOCKS = 0xFFFF
MULTICAST = "multicast"
_ALONE = frozenset({"windowsize", "msftwindow", "timeout"})  # what is agreed with one client cannot hold for a group


@dataclass(frozen=True, slots=True)
class MemberFinished:
    """Fact: this client has left the group."""

    client: Address
    verdict: Verdict
    detail: str = ""


GroupEvent: TypeAlias = ExtentNeeded | MemberFinished | Finished | Ignored | Malformed


@dataclass(slots=True)
class _Member:
    client: Address
    granted: Options
    answered: bool = False


def asks_for_multicast(request: ReadRequest) -> bool:
    """Whether the client could read by multicast."""
    return any(name == MULTICAST for name, _ in request.options)


def terms_for_group(request: ReadRequest, size_bytes: int, limits: Limits) -> Terms | None:
    """What a member would be granted; None where the file has too many blocks of that size."""
    options = tuple(option for option in request.options if option[0] not in _ALONE)
    terms = negotiate(options, size_bytes, limits)
    return terms if size_bytes // terms.blksize + 1 <= MAX_BLOCKS else None


class GroupTransfer:
    """Clients that read one file of a known size together. The verbs are those of `protocol.machine`."""

    def __init__(self, group: Address, size_bytes: int, blksize: int, limits: Limits) -> None:
        self.group, self.size_bytes, self.blksize = group, size_bytes, blksize
        self.datagrams_sent = 0
        self.retransmits = 0
        self.finished = False
        self._blocks = Blocks(size_bytes, blksize, limits.extent_bytes)
        self._limits = limits
        self._members: dict[Address, _Member] = {}
        self._timer = RetransmissionTimer(limits.timeout_s, limits.attempts)
        self._deadline: float | None = None
        self._acked = -1  # the master's last ACK; -1: it has not said where it stands
        self._block = 0  # the block to send; 0: none
        self._sent_at: float | None = None
        self._control: deque[Transmit] = deque()
        self._strays: deque[Address] = deque(maxlen=MAX_STRAYS)
        self._events: deque[GroupEvent] = deque()

    @property
    def members(self) -> int:
        """How many read now."""
        return len(self._members)

    def join(self, request: ReadRequest, client: Address, now: float) -> None:
        """One more client, whose terms have this group's blksize. Again: its OACK is sent again."""
        terms = terms_for_group(request, self.size_bytes, self._limits)
        assert terms is not None
        member = self._members.setdefault(client, _Member(client, terms.granted))
        self._offer(member, now)

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """A datagram reached the group's port."""
        try:
            message = decode(data)
        except MalformedMessage as error:
            self._events.append(Malformed(error.reason))
            return
        member = self._members.get(source)
        if member is None:
            self._events.append(Ignored("stray_tid"))
            if not isinstance(message, Error):
                self._strays.append(source)
        elif isinstance(message, Ack):
            self._receive_ack(member, message.block_number, now)
        elif isinstance(message, Error):
            verdict = Verdict.ABORTED if member.answered else Verdict.PROBE
            self._leave(member, verdict, f"client error {message.code}: {message.message or 'no text'}", now)
        else:
            self._events.append(Ignored("unexpected"))

    def handle_timeout(self, now: float) -> None:
        """The master may have been silent for too long: say it again, or make the next member the master."""
        if self._deadline is None or now < self._deadline:
            return
        self._deadline = None
        master = self._master()
        patient = self._timer.back_off()
        if not patient or (not master.answered and self._timer.backed_off > UNANSWERED_ATTEMPTS):
            self._leave(
                master, Verdict.TIMEOUT, f"no answer after block {max(self._acked, 0)} of {self._blocks.last}", now
            )
            return
        self.retransmits += 1
        self._sent_at = None
        if self._acked < 0:
            self._offer(master, now)
        else:
            self._block = self._acked + 1

    def poll_transmit(self, now: float) -> Transmit | None:
        """The next datagram, None when there is nothing to send now."""
        if self._strays:
            return Transmit((encode(Error(ErrorCode.UNKNOWN_TID, "unknown transfer")),), self._strays.popleft())
        if self._control:
            self.datagrams_sent += 1
            return self._control.popleft()
        if not self._block or self.finished:
            return None
        if not self._blocks.here(self._block, self._block):
            needed = self._blocks.ask(self._block, 1)
            if needed is not None:
                self._events.append(needed)
            return None
        block, self._block = self._block, 0
        self.datagrams_sent += 1
        self._deadline = now + self._timer.interval_s()
        return Transmit(self._blocks.train(block, 1), self.group, self.blksize + HEADER_BYTES)

    def next_event(self) -> GroupEvent | None:
        """The next fact or request, in order."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self._deadline

    def provide_extent(self, extent: Extent, length: int) -> None:
        """What ExtentNeeded asked for, with so many bytes of the file."""
        if not self.finished and not self._blocks.provide(extent, length):
            self.fail("the file became shorter while it was read")

    def fail(self, reason: str) -> None:
        """End it for all; each is told why."""
        error = encode(Error(ErrorCode.NOT_DEFINED, reason))
        for member in list(self._members.values()):
            self._control.append(Transmit((error,), member.client))
            self._events.append(MemberFinished(member.client, Verdict.ABORTED, reason))
        self._members.clear()
        self._end()

    def drop(self, client: Address, now: float) -> None:
        """This client asks for something else: it leaves without a word."""
        member = self._members.get(client)
        if member is not None:
            self._leave(member, Verdict.ABORTED, "the client asked anew from the same port", now)

    def _receive_ack(self, member: _Member, number: int, now: float) -> None:
        member.answered = True
        if number == self._blocks.last:
            self._leave(member, Verdict.COMPLETED, "", now)
        elif member is not self._master():
            self._events.append(Ignored("duplicate_ack"))  # of its OACK: it listens
        elif number > self._blocks.last:
            self._events.append(Ignored("stale_ack"))
        elif number <= self._acked:
            # A copy: a master's holes lie ever further on. Only the timer repeats, RFC 1123 section 4.2.3.1.
            self._events.append(Ignored("duplicate_ack"))
        else:
            self._go_on(number, now)

    def _go_on(self, number: int, now: float) -> None:
        self._timer.progress()
        if self._sent_at is not None:
            self._timer.sample(now - self._sent_at)
        self._sent_at = now
        self._acked, self._block = number, number + 1
        self._deadline = None

    def _master(self) -> _Member:
        return next(iter(self._members.values()))

    def _offer(self, member: _Member, now: float) -> None:
        is_master = member is self._master()
        value = f"{self.group[0]},{self.group[1]},{int(is_master)}"
        granted = OptionAck((*member.granted, (MULTICAST, value)))
        self._control.append(Transmit((encode(granted),), member.client))
        if is_master:
            self._deadline = now + self._timer.interval_s()

    def _leave(self, member: _Member, verdict: Verdict, detail: str, now: float) -> None:
        was_master = member is self._master()
        del self._members[member.client]
        self._events.append(MemberFinished(member.client, verdict, detail))
        if not self._members:
            self._end()
        elif was_master:
            self._acked, self._block, self._sent_at = -1, 0, None
            self._timer.progress()
            self._offer(self._master(), now)

    def _end(self) -> None:
        self.finished = True
        self._deadline = None
        self._blocks.drop()
        self._events.append(Finished(Verdict.COMPLETED))
