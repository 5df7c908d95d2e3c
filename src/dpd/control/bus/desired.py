# SPDX-License-Identifier: Apache-2.0
"""What the site wants this point to hold: jobs are ordered until it is so, among the packages that the site has spoken of.

What the site never spoke of is the operator's own and stays. What it spoke of and wants no more is taken out; another version
of a package goes when the wanted one has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dpd.bus.link import Link
from dpd.bus.messages import Desired, DesiredPackage, decode
from dpd.bus.subjects import Subjects
from dpd.bus.watch import Watch
from dpd.control.bus.memory import BusMemory
from dpd.control.operations.job import JobOperations
from dpd.distribution.jobs.job import BRINGING, JobKind, JobOrder, Priority
from dpd.distribution.states import PackageStatus
from dpd.errors import BusError, ContentNotFound, DpdError, JobError
from dpd.telemetry.stats import counter, gauge

log = logging.getLogger(__name__)

LOOK_S = 30.0  # at what is held; jobs retry by themselves
FAILED_PAUSE_S = 900.0  # before a job that has failed for good is ordered again


@dataclass(slots=True)
class DesiredStats:
    """What the site wants here."""

    packages: int = gauge("Packages that the site wants here")
    missing: int = gauge("Packages that the site wants here and that are not here yet")
    jobs: int = counter("Jobs ordered because the site wants something here, or no more")


class DesiredContent:
    """`attend` is a work of the bus connection; `follow`, which needs no bus, is done all the time."""

    def __init__(
        self,
        jobs: JobOperations,
        memory: BusMemory,
        site: str,
        point: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = DesiredStats()
        self._jobs = jobs
        self._memory = memory
        self._actor = f"site {site}"
        self._point = point
        self._bucket = Subjects(site).desired_bucket
        self._monotonic = monotonic
        self._desired: Desired | None = None  # None: not heard since the start
        self._changed = asyncio.Event()
        self._ordered_at: dict[tuple[JobKind, str, int | None], float] = {}

    async def attend(self, link: Link) -> None:
        """Hear what is wanted, until the link breaks."""
        async with link.watched(self._bucket, self._point) as entries:
            await self._hear(entries)

    async def _hear(self, entries: Watch) -> None:
        async for entry in entries:
            if entry is None:
                continue  # nothing was ever said, or that was all
            try:
                wanted = Desired() if entry.is_deleted else decode(Desired, entry.value)
            except BusError as error:
                log.error("desired content is none; the last one goes on", extra={"error": str(error)})
                continue
            self._desired = wanted
            self._ordered_at.clear()
            self._changed.set()

    async def follow(self) -> None:
        """For ever."""
        while True:
            self._changed.clear()
            if self._desired is not None:
                try:
                    await self._order(self._desired)
                except DpdError as error:
                    log.warning("desired content waits", extra={"cause": str(error)})
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    # ---- one look

    async def _order(self, desired: Desired) -> None:
        """Whatever lacks or is too much now."""
        await asyncio.to_thread(self._memory.speak_of, map(_key, desired.packages))
        missing = 0
        for package in desired.packages:
            missing += not await self._bring(package)
        self.stats.packages, self.stats.missing = len(desired.packages), missing
        spoken = await asyncio.to_thread(self._memory.spoken)
        for package_id, version in sorted(spoken - set(map(_key, desired.packages))):
            if await self._take_out(package_id, version, desired.packages):
                await asyncio.to_thread(self._memory.speak_no_more_of, [(package_id, version)])

    async def _bring(self, package: DesiredPackage) -> bool:
        """Whether it is here."""
        status = await self._status(package.package_id)
        held = () if status is None else status.versions
        wanted = package.source_version
        if held if wanted is None else wanted in held:
            return True
        if status is None or status.job is None or not (status.job.is_open and status.job.kind in BRINGING and status.job.source_version == wanted):  # fmt: skip
            await self._submit(JobKind.DISTRIBUTE, package.package_id, wanted, Priority(package.priority))
        return False

    async def _take_out(self, package_id: str, version: int, desired: Iterable[DesiredPackage]) -> bool:
        """Whether it is out, or the operator's own again. `version` 0: whatever came as the newest."""
        status = await self._status(package_id)
        held = () if status is None else status.versions
        others = [each for each in desired if each.package_id == package_id]
        if others:
            wanted = others[0].source_version
            if wanted is None or not version:
                return True  # what is here counts as wanted
            if wanted not in held:
                return False  # not before the wanted one is here
        if not held if not version else version not in held:
            return True
        if status is not None and status.job is not None and status.job.is_open and status.job.kind is JobKind.REMOVE:
            return False
        await self._submit(JobKind.REMOVE, package_id, version or None, Priority.NORMAL)
        return False

    async def _status(self, package_id: str) -> PackageStatus | None:
        try:
            return await self._jobs.package(package_id)
        except ContentNotFound:
            return None

    async def _submit(self, kind: JobKind, package_id: str, version: int | None, priority: Priority) -> None:
        """Not again for a while, since a job that has failed has tried long enough."""
        key, now = (kind, package_id, version), self._monotonic()
        if key in self._ordered_at and now - self._ordered_at[key] < FAILED_PAUSE_S:
            return
        self._ordered_at[key] = now
        try:
            await self._jobs.submit(JobOrder(kind, package_id, version, priority, actor=self._actor))
            self.stats.jobs += 1
        except JobError as error:
            log.warning("desired content: job refused", extra={"package_id": package_id, "error": str(error)})


def _key(package: DesiredPackage) -> tuple[str, int]:
    return package.package_id, package.source_version or 0
