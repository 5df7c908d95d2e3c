# SPDX-License-Identifier: Apache-2.0
"""What is true now, apart from history: read from those who know it, never from messages, so that a cured error is gone.

The position is read first: whoever takes the state and then the messages behind that position misses no change.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dpd.control.operations.bus import BusOperations, BusStatus
from dpd.control.operations.job import JobOperations
from dpd.control.operations.message import MessageOperations
from dpd.control.operations.site import SiteOperations
from dpd.control.operations.why import LastBoot, WhyOperations
from dpd.errors import Unavailable
from dpd.service.multicast.session_status import SessionStatus
from dpd.site.waiting_room import PendingMachine

InWorker: TypeAlias = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class PackageNow:
    """A package as it is; `why` says what is done, waited for or wrong."""

    package_id: str
    state: str
    versions: tuple[int, ...]
    damaged: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class StateNow:
    """What is true at a moment. `position` is where messages go on; "" where none are kept. `maintenance` and `pxe_maintenance`
    are reasons, "" for none. `package_states` counts all packages, `packages` are the first of them; `boots` are the newest of
    `machines` machines. `open_jobs` counts by state."""

    at: float
    position: str
    state: str
    maintenance: str
    pxe_maintenance: str
    package_states: dict[str, int]
    packages: tuple[PackageNow, ...]
    open_jobs: dict[str, int]
    sessions: tuple[SessionStatus, ...]
    machines: int
    boots: tuple[LastBoot, ...]
    pending: tuple[PendingMachine, ...]
    bus: BusStatus


@dataclass(frozen=True, slots=True)
class _ContentNow:
    """What distribution knows."""

    maintenance: str
    states: dict[str, int]
    packages: tuple[PackageNow, ...]
    open_jobs: dict[str, int]


class Asked(Protocol):
    """Those who know."""

    state: str
    jobs: JobOperations
    messages: MessageOperations
    site: SiteOperations
    why: WhyOperations
    bus: BusOperations

    def sessions(self) -> list[SessionStatus]: ...


class StateOperations:
    """The verb over those who know."""

    def __init__(self, asked: Asked, in_worker: InWorker) -> None:
        self._asked = asked
        self._in_worker = in_worker

    async def now(self, packages: int, machines: int) -> StateNow:
        """At most so many packages, in their order, and so many machines, the newest."""
        asked, at = self._asked, time.time()
        position = self._position()
        boots, heard = await self._in_worker(asked.why.boots, machines)
        content = await self._content(packages)
        return StateNow(
            at=at,
            position=position,
            state=asked.state,
            maintenance=content.maintenance,
            pxe_maintenance=asked.site.maintenance(),
            package_states=content.states,
            packages=content.packages,
            open_jobs=content.open_jobs,
            sessions=tuple(asked.sessions()),
            machines=heard,
            boots=tuple(boots),
            pending=tuple(asked.site.unknown().pending),
            bus=asked.bus.status(),
        )

    def _position(self) -> str:
        try:
            return str(self._asked.messages.position(None))
        except Unavailable:
            return ""

    async def _content(self, limit: int) -> _ContentNow:
        """Nothing where this dpd has no distribution."""
        jobs = self._asked.jobs
        try:
            states = await self._in_worker(jobs.distribution.states.counts)
        except Unavailable:
            return _ContentNow("", {}, (), {})
        page = await jobs.packages("", limit) if limit else []
        packages = [PackageNow(each.package_id, each.state, each.versions, each.damaged, each.why) for each in page]
        open_jobs = Counter(job.state.value for job in await jobs.open_jobs())
        return _ContentNow(jobs.maintenance(), states, tuple(packages), dict(open_jobs))
