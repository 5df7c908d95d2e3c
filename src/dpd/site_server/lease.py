# SPDX-License-Identifier: Apache-2.0
"""One site server steers a site at a time: who holds a key of a bucket, which it renews.

Theory of operation. Each renewal is put on condition that the key's revision is the one of the renewal before, so of two servers
that put at once JetStream takes one. A holder whose renewals have not been confirmed for HOLD_S stops steering; another one takes
the lease over when its revision has stood still for EXPIRES_S while it was looking, longer than any holder goes on. No clock of
one host is compared with another's. A lease that was given back, or whose process is known to have ended, is free at once.

What is put bears a mark made for it. Whether a lease that is found is our own, after an answer that was lost or on a new link, is
told by that mark and by nothing else: a host that was cloned while it ran has everything else in common with the first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from dpd.bus.connection import Tell, tell_nobody
from dpd.bus.link import Link
from dpd.bus.messages import SiteLease, decode, encode
from dpd.bus.subjects import LEASE, Subjects
from dpd.bus.together import end_all
from dpd.errors import BusError, Unavailable
from dpd.site_server.layout import ensure_bucket
from dpd.site_server.running_process import has_ended, sign_of_process
from dpd.telemetry.stats import counter, gauge

log = logging.getLogger(__name__)

RENEW_S = 5.0
HOLD_S = 15.0  # without a confirmed renewal
EXPIRES_S = 30.0  # above HOLD_S, and above the pause before a holder that was cut off is back on the bus
LOOK_S = 1.0  # of those who wait
SETTLE_S = 5.0  # for a question that comes while the lease is being taken
MARKS = 8  # renewals whose fate is not known; they end with HOLD_S

_WRONG_REVISION = 10071  # JSStreamWrongLastSequenceErrF


class SuccessionRefused(BusError):
    """This server may not go on in the place of the one before: why, and what to do."""


class LeaseState(StrEnum):
    """Whether this server steers."""

    UNKNOWN = "unknown"  # there is no connection to the bus, or it has just been made
    HELD = "held"
    WAITING = "waiting"  # another one does, or the site cannot be taken over from it


@dataclass(slots=True)
class LeaseStats:
    """What became of the lease."""

    held: int = gauge("1 while this site server steers the site")
    waiting: int = gauge("1 while another site server steers the site and this one waits")
    taken: int = counter("Times that this site server began to steer the site")
    lost: int = counter("Times that this site server had to stop steering the site while it ran")


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """`host`, `pid` and `since` are those of who steers, as far as is known; `trouble` says why this server does not take over
    from one that is gone."""

    state: LeaseState
    host: str
    pid: int
    since: float
    trouble: str


@dataclass(frozen=True, slots=True)
class _Found:
    """What the key has; revision 0 where it never had anything."""

    revision: int
    lease: SiteLease | None


class Lease:
    """`attend` is a work of the bus connection, `during` what others are to do in one state. `succeed` makes ready to go on in the
    place of another server: False for not yet, raises SuccessionRefused. `begin` is awaited when the lease has been taken and
    before it counts as held."""

    def __init__(
        self,
        site: str,
        server: str,
        *,
        succeed: Callable[[Link], Awaitable[bool]],
        begin: Callable[[], Awaitable[None]],
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        process: str | None = None,
        renew_s: float = RENEW_S,
        look_s: float = LOOK_S,
    ) -> None:
        self.stats = LeaseStats()
        self.state = LeaseState.UNKNOWN
        self.trouble = ""
        self._site = site
        self._server = server
        self._bucket = Subjects(site).site_bucket
        self._succeed = succeed
        self._begin = begin
        self._tell = tell
        self._clock = clock
        self._monotonic = monotonic
        self._process = sign_of_process() if process is None else process
        self._renew_s, self._look_s = renew_s, look_s
        self._changed = asyncio.Event()  # set, and replaced, with each change of state
        self._renewing = asyncio.Lock()
        self._marks: list[str] = []
        self._revision = 0
        self._confirmed_at = 0.0
        self._holder: SiteLease | None = None
        self._since = 0.0
        self._alive = ""  # the server that was seen to renew while this one waited
        self._told = ""
        self._is_over = False

    # ---- questions

    def status(self) -> LeaseStatus:
        """Plain reads, no waiting."""
        holder = self._holder
        if holder is None:
            return LeaseStatus(self.state, "", 0, 0.0, self.trouble)
        return LeaseStatus(self.state, holder.host, holder.pid, holder.since, self.trouble)

    async def require(self) -> None:
        """Raises Unavailable where another server steers the site, or none does yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while self.state is LeaseState.UNKNOWN:
                    await self._changed.wait()
        if self.state is LeaseState.HELD:
            return
        if self.state is LeaseState.UNKNOWN:
            raise Unavailable("the site server does not know yet whether it steers the site; ask again")
        raise Unavailable(f"this site server waits: {self._words()}; nothing was done")

    def _words(self) -> str:
        holder = self._holder
        if self.trouble or holder is None:
            return self.trouble
        return f"site {self._site} is steered by the site server on {holder.host} (pid {holder.pid}); ask that one, or stop it, and this one takes over"

    async def during(self, state: LeaseState, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work whenever and for as long as this server is so; returns when the work has, raises what it raises."""
        while True:
            while self.state is not state:
                await self._changed.wait()
            working = asyncio.get_running_loop().create_task(_as_coroutine(work))
            changing = asyncio.get_running_loop().create_task(self._changed.wait())
            try:
                await asyncio.wait((working, changing), return_when=asyncio.FIRST_COMPLETED)
                is_done = working.done()
            finally:
                await end_all([working, changing])
            if is_done:
                working.result()
                return

    # ---- the life of it

    async def attend(self, link: Link) -> None:
        """Until the link breaks: take the lease when it is free, and hold it."""
        await ensure_bucket(link, self._bucket)
        try:
            while not self._is_over:
                await self._take(link)
                await self._keep(link)
            await link.broken.wait()
        finally:
            self._become(LeaseState.UNKNOWN)

    async def confirm(self, link: Link) -> None:
        """Whether this server steers the site at this very moment. Raises BusError where it does not."""
        if self.state is not LeaseState.HELD or not await self._renew(link):
            raise BusError(f"this site server does not steer site {self._site} any more")

    async def give_back(self, link: Link) -> None:
        """Another one need not wait; this one steers no more."""
        self._is_over = True
        if self.state is LeaseState.HELD:
            self._become(LeaseState.UNKNOWN)
            async with self._renewing:
                await self._put(link, is_released=True)

    def _become(self, state: LeaseState) -> None:
        if state is self.state:
            return
        self.stats.held, self.stats.waiting = int(state is LeaseState.HELD), int(state is LeaseState.WAITING)
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ---- waiting

    async def _take(self, link: Link) -> None:
        """Returns when it is ours."""
        seen, since = -1, self._monotonic()  # on this link: while the bus was away the holder could not renew either
        while True:
            found = await self._read(link)
            if found.revision != seen:
                if seen >= 0 and found.lease is not None and found.lease.mark not in self._marks:
                    self._alive = found.lease.server
                seen, since = found.revision, self._monotonic()
            if self._is_over:
                return
            if self._is_free(found.lease) or self._monotonic() - since >= EXPIRES_S:
                if await self._try_to_take(link, found):
                    return
            elif found.lease is not None:
                self._wait(found.lease, "")
            await asyncio.sleep(self._look_s)

    def _is_free(self, lease: SiteLease | None) -> bool:
        if lease is None or lease.is_released or lease.mark in self._marks:
            return True
        return has_ended(lease.process, self._process)

    async def _try_to_take(self, link: Link, found: _Found) -> bool:
        before = found.lease
        is_resumed = before is not None and before.mark in self._marks and not before.is_released
        is_another = before is not None and not is_resumed and self._is_another(before)
        if before is not None and is_another and not await self._may_succeed(link, before):
            return False
        began_at = self._monotonic()
        self._since = self._since if is_resumed else self._clock()
        self._revision = found.revision
        if self._is_over or not await self._try_to_put(link):
            return False
        self._confirmed_at = began_at
        await self._begin()
        self._told = self.trouble = self._alive = ""
        self._become(LeaseState.HELD)
        if not is_resumed:
            self.stats.taken += 1
            self._tell_taken(before if is_another else None)
        return True

    def _is_another(self, lease: SiteLease) -> bool:
        """Also one whose state is a copy of ours, if it was seen at work."""
        return lease.server in (self._alive, "") or lease.server != self._server

    async def _may_succeed(self, link: Link, before: SiteLease) -> bool:
        try:
            if await self._succeed(link):
                return True
        except SuccessionRefused as error:
            self._wait(before, str(error))
            return False
        self._holder = before
        self._become(LeaseState.WAITING)
        return False

    def _tell_taken(self, before: SiteLease | None) -> None:
        host = before.host if before is not None else ""
        log.info("this site server steers the site", extra={"site": self._site, "before": host})
        self._tell("site.steered", site=self._site, before=host)

    def _wait(self, holder: SiteLease, trouble: str) -> None:
        """Told once for each holder and reason."""
        self._holder, self.trouble = holder, trouble
        self._become(LeaseState.WAITING)
        told = f"{holder.host} {holder.pid} {holder.since} {trouble}"
        if told == self._told:
            return
        self._told = told
        host, pid = holder.host, holder.pid
        if trouble:
            log.error("site not taken over", extra={"site": self._site, "before": host, "cause": trouble})
            self._tell("site.not_taken_over", site=self._site, before=host, cause=trouble)
        else:
            log.warning("another site server steers the site; this one waits", extra={"site": self._site, "host": host, "holder": pid})  # fmt: skip
            self._tell("site.waiting", site=self._site, host=host, pid=pid)

    # ---- holding

    async def _keep(self, link: Link) -> None:
        """Returns when somebody else has it, or nothing confirms any more that it is ours."""
        while not self._is_over:
            await asyncio.sleep(min(self._renew_s, self._left_s))
            if self._is_over:
                return
            try:
                async with asyncio.timeout(self._left_s):
                    is_ours = await self._renew(link)
            except Exception as error:
                if self._left_s:
                    continue
                self._lose(f"not confirmed for {HOLD_S:.0f} s: {error or type(error).__name__}")
                return
            if not is_ours:
                self._lose("another site server has taken it")
                return

    @property
    def _left_s(self) -> float:
        return max(0.0, self._confirmed_at + HOLD_S - self._monotonic())

    def _lose(self, cause: str) -> None:
        self.stats.lost += 1
        self._become(LeaseState.UNKNOWN)
        log.error("this site server has stopped steering the site", extra={"site": self._site, "cause": cause})
        self._tell("site.lease_lost", site=self._site, cause=cause)

    async def _renew(self, link: Link) -> bool:
        """Whether it is ours still. Raises what the bus raises where nobody can tell."""
        async with self._renewing:
            began_at = self._monotonic()
            if self.state is not LeaseState.HELD:
                return False
            if not await self._try_to_put(link):
                found = await self._read(link)  # an answer may have been lost
                if found.lease is None or found.lease.mark not in self._marks:
                    return False
                self._revision = found.revision
                if not await self._try_to_put(link):
                    return False
            self._confirmed_at = began_at
            return True

    # ---- the key

    async def _read(self, link: Link) -> _Found:
        from nats.js.errors import KeyNotFoundError

        bucket = await link.bucket(self._bucket)
        try:
            entry = await bucket.get(LEASE)
        except KeyNotFoundError as error:
            return _Found((error.entry.revision or 0) if error.entry is not None else 0, None)  # one that was deleted
        try:
            return _Found(entry.revision or 0, decode(SiteLease, entry.value))
        except BusError as error:
            log.warning("lease of the site is none and is taken", extra={"error": str(error)})
            return _Found(entry.revision or 0, None)

    async def _try_to_put(self, link: Link) -> bool:
        """False where the key is of another revision."""
        from nats.js.errors import APIError

        try:
            await self._put(link)
        except APIError as error:
            if error.err_code == _WRONG_REVISION:
                return False
            raise
        return True

    async def _put(self, link: Link, *, is_released: bool = False) -> None:
        mark = secrets.token_hex(16)
        self._marks = [*self._marks, mark][-MARKS:]
        own = SiteLease(
            mark, self._server, socket.gethostname(), os.getpid(), self._process, self._since, is_released
        )  # fmt: skip
        self._revision = await link.replace(f"$KV.{self._bucket}.{LEASE}", encode(own), self._revision)
        self._holder = own


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()
