# SPDX-License-Identifier: Apache-2.0
"""Reads by multicast (RFC 2090): clients that ask for it and for the same file, in blocks of the same size, share a stream."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dpd.boot.tree import BootObject
from dpd.protocol.machine import Address
from dpd.protocol.tftp.events import ExtentNeeded, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.group import GroupEvent, GroupTransfer, MemberFinished, asks_for_multicast, terms_for_group
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Error, ErrorCode, ReadRequest, encode
from dpd.service.driver import Driver
from dpd.service.network.udp import send_datagram
from dpd.service.tftp.extents import OpenFile
from dpd.service.tftp.reading import TftpStats
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

GROUPS = "239.255.69."  # of the local scope, RFC 2365: no router carries it off the site
GROUP_COUNT = 254
PORT = 1758  # tftp-mcast, as RFC 2090 recommends
TTL = 16


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What clients must have alike to share a stream."""

    local: str
    name: str
    etag: str
    blksize: int


class GroupMember:
    """One client of a group, as the service sees a transfer."""

    def __init__(self, group: Group, request: ReadRequest, file: BootObject, client: Address) -> None:
        self.request, self.file, self.client = request, file, client
        self.began_at = time.monotonic()
        self._group = group
        self._complete = False

    @property
    def answered(self) -> bool:
        """Never: whoever asks the same again gets the same OACK again."""
        return False

    def repeat(self) -> None:
        """The client asks again: its OACK was lost."""
        self._group.join(self)

    def abort(self, reason: str) -> None:
        """End the whole group; each of its clients is told why."""
        self._group.transfer.fail(reason)
        self._group.driver.pump()

    def end(self, verdict: Verdict, detail: str) -> None:
        """Over for this client, without a word to it."""
        self._group.transfer.drop(self.client, time.monotonic())
        self._group.driver.pump()

    def figures(self) -> dict[str, int | float]:
        """For the record. What the group sent is not divided among its members."""
        transfer = self._group.transfer
        read = transfer.size_bytes if self._complete else 0
        seconds = round(time.monotonic() - self.began_at, 3)
        return {"bytes": read, "blksize": transfer.blksize, "windowsize": 1, "retransmits": 0, "multicast": 1, "seconds": seconds}  # fmt: skip

    def note_complete(self) -> None:
        """It has the whole file."""
        self._complete = True


class Group:
    """One stream: its machine, its file, and its socket by way of the driver."""

    def __init__(
        self,
        transfer: GroupTransfer,
        content: OpenFile,
        sock: socket.socket,
        *,
        pool: Executor,
        stats: TftpStats,
        note_end: Callable[[GroupMember, Verdict, str], None],
        note_empty: Callable[[], None],
    ) -> None:
        self.transfer = transfer
        self.driver = Driver(transfer, sock, self, pool)
        self._content, self._sock, self._stats = content, sock, stats
        self._note_end, self._note_empty = note_end, note_empty
        self._members: dict[Address, GroupMember] = {}

    def join(self, member: GroupMember) -> None:
        """One more client, or one that asks again."""
        self._members[member.client] = member
        self.transfer.join(member.request, member.client, time.monotonic())
        self.driver.pump()

    def on_event(self, event: GroupEvent) -> None:
        match event:
            case ExtentNeeded():
                self._read(event)
            case MemberFinished(client, verdict, detail):
                self._end_member(client, verdict, detail)
            case Finished():
                self._end()
            case Ignored(reason):
                bump(self._stats.ignored, reason)
            case Malformed(reason):
                bump(self._stats.malformed, reason)

    def on_failure(self, error: Exception) -> None:
        self._stats.failures += 1
        log.error("tftp multicast failed", extra={"group": self.transfer.group[0]}, exc_info=error)
        for client in list(self._members):
            with suppress(OSError):
                send_datagram(self._sock, encode(Error(ErrorCode.NOT_DEFINED, "server error")), client)
            self._end_member(client, Verdict.ABORTED, f"server error: {error}")
        self._end()

    def on_released(self) -> None:
        self._content.close()

    def _end_member(self, client: Address, verdict: Verdict, detail: str) -> None:
        member = self._members.pop(client)
        if verdict is Verdict.COMPLETED:
            member.note_complete()
        self._note_end(member, verdict, detail)

    def _end(self) -> None:
        self.driver.close()
        self._stats.datagrams += self.transfer.datagrams_sent
        self._stats.retransmits += self.transfer.retransmits
        self._stats.send_failures += self.driver.send_failures
        self._note_empty()

    def _read(self, needed: ExtentNeeded) -> None:
        filled = self._content.at_once(needed)
        if filled is not None:
            self.transfer.provide_extent(*filled)
            return
        self._stats.disk_reads += 1
        self.driver.request(partial(self._content.read, needed), lambda filled: self.transfer.provide_extent(*filled))


class MulticastGroups:
    """The groups that run now, each with an address of its own."""

    def __init__(self, pool: Executor, stats: TftpStats, note_end: Callable[[GroupMember, Verdict, str], None]) -> None:
        self._pool, self._stats, self._note_end = pool, stats, note_end
        self._groups: dict[GroupKey, Group] = {}

    def key_for(self, request: ReadRequest, file: BootObject, local: str, limits: Limits) -> GroupKey | None:
        """Which group the client could be in; None where it does not ask for that, or must read alone."""
        if not asks_for_multicast(request) or ":" in local:  # the option has room for an IPv4 address alone
            return None
        terms = terms_for_group(request, file.size_bytes, limits)
        if terms is None or len(self._groups) >= GROUP_COUNT:
            return None
        return GroupKey(local, file.name, file.etag, terms.blksize)

    def running(self, key: GroupKey) -> Group | None:
        """The group that reads this already."""
        return self._groups.get(key)

    def begin(self, key: GroupKey, file: BootObject, content: OpenFile, sock: socket.socket, limits: Limits) -> Group:
        """A new group. `sock` is its own from now on, and so is the file."""
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(key.local))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
        transfer = GroupTransfer((self._free_address(key.local), PORT), file.size_bytes, key.blksize, limits)
        group = Group(
            *(transfer, content, sock),
            pool=self._pool,
            stats=self._stats,
            note_end=self._note_end,
            note_empty=partial(self._groups.__delitem__, key),
        )
        self._groups[key] = group
        group.driver.start()
        return group

    def _free_address(self, local: str) -> str:
        """Servers on one LAN start at different ones."""
        taken = {group.transfer.group[0] for group in self._groups.values()}
        start = random.Random(local).randrange(GROUP_COUNT)
        candidates = (f"{GROUPS}{(start + step) % GROUP_COUNT + 1}" for step in range(GROUP_COUNT))
        return next(address for address in candidates if address not in taken)
