# SPDX-License-Identifier: Apache-2.0
"""The verbs of distribution: order, look at, cancel and retry jobs, the states of packages, maintenance.

Whatever writes or reads a disk runs in a worker thread; a job itself runs in threads of its own and outlives the request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

from dpd.distribution.distribution import Distribution
from dpd.distribution.jobs.job import Job, JobOrder, JobState
from dpd.distribution.states import PackageStatus
from dpd.errors import Unavailable
from dpd.urls import without_secrets

log = logging.getLogger(__name__)

InWorker: TypeAlias = Callable[..., Awaitable[Any]]


class JobOperations:
    """The verbs over one distribution; `refuse_while_draining` raises Unavailable where no new work may begin."""

    def __init__(
        self, distribution: Distribution | None, in_worker: InWorker, refuse_while_draining: Callable[[], None]
    ) -> None:
        self._distribution = distribution
        self._in_worker = in_worker
        self._refuse_while_draining = refuse_while_draining

    @property
    def distribution(self) -> Distribution:
        """Raises Unavailable where this daemon was built without one."""
        if self._distribution is None:
            raise Unavailable("this dpd runs without distribution; start it with `dpd serve`")
        return self._distribution

    async def submit(self, order: JobOrder) -> Job:
        """The job of this order, the open one where there is one. Raises JobError."""
        self._refuse_while_draining()
        job: Job = await self._in_worker(self.distribution.desk.submit, order)
        log.info("job ordered", extra={"job": job.id, "order": str(order), "actor": order.actor})
        return _shown(job)

    async def open_jobs(self) -> list[Job]:
        """Those that run, then those that will, in the order of their turn."""
        jobs: list[Job] = await self._in_worker(self.distribution.desk.open_jobs)
        return [_shown(job) for job in jobs]

    async def ended_jobs(
        self, before: int | None, limit: int, package_id: str = "", state: JobState | None = None
    ) -> list[Job]:
        """Those that have ended, the newest first, with lower ids than `before`."""
        jobs: list[Job] = await self._in_worker(self.distribution.desk.ended, before, limit, package_id, state)
        return [_shown(job) for job in jobs]

    async def job(self, id: int) -> Job:
        """Raises JobNotFound."""
        job: Job = await self._in_worker(self.distribution.desk.find, id)
        return _shown(job)

    async def cancel(self, id: int, actor: str) -> Job:
        """Take a job back. Raises JobNotFound, JobError where it has ended otherwise."""
        job: Job = await self._in_worker(self.distribution.desk.cancel, id, actor)
        log.info("job cancelled", extra={"job": id, "actor": actor})
        return _shown(job)

    async def retry(self, id: int, actor: str) -> Job:
        """Try now what waits, order anew what failed. Raises JobNotFound, JobError."""
        self._refuse_while_draining()
        job: Job = await self._in_worker(self.distribution.desk.retry, id, actor)
        return _shown(job)

    async def packages(self, after: str, limit: int) -> list[PackageStatus]:
        """The state of each package, in their order."""
        page: list[PackageStatus] = await self._in_worker(self.distribution.states.page, after, limit)
        return [_shown_status(status) for status in page]

    async def package(self, package_id: str) -> PackageStatus:
        """Raises ContentNotFound."""
        status: PackageStatus = await self._in_worker(self.distribution.states.status, package_id)
        return _shown_status(status)

    def maintenance(self) -> str:
        """The reason, "" where there is none."""
        return self.distribution.maintenance.reason

    async def set_maintenance(self, reason: str, actor: str) -> str:
        """Begin maintenance, or with "" end it."""
        await self._in_worker(self.distribution.desk.set_maintenance, reason)
        log.warning("maintenance", extra={"reason": reason, "actor": actor})
        return self.maintenance()

    # ---- what the verbs of content ask

    def refuse_new_content(self) -> None:
        """Raises Unavailable during maintenance."""
        if self._distribution is not None:
            self._distribution.maintenance.refuse_new_content()

    async def before_removal(self, package_id: str, source_version: int | None) -> None:
        """Somebody takes this out without a job: it is not to be fetched again."""
        if self._distribution is not None:
            await self._in_worker(self._distribution.expect_removal, package_id, source_version)

    async def changed(self, package_id: str) -> None:
        """Its content has come or gone without a job."""
        if self._distribution is not None:
            await self._in_worker(self._distribution.noticed, package_id)


def _shown_status(status: PackageStatus) -> PackageStatus:
    return status if status.job is None else replace(status, job=_shown(status.job))


def _shown(job: Job) -> Job:
    """As anybody may see it: its URL without name, password and query. The job itself goes on with all of it."""
    options = {name: without_secrets(value) if isinstance(value, str) else value for name, value in job.options.items()}
    return job if options == job.options else replace(job, options=options)
