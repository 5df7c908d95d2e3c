# SPDX-License-Identifier: Apache-2.0
"""Distribution of one dpd: the desk with its work and its threads, opened, started and ended as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.database import Database
from dpd.distribution.content_work import ContentWork
from dpd.distribution.jobs.desk import JobDesk
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.holds import Holds
from dpd.distribution.jobs.job import Job, JobKind, JobOrder
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.ports import Puller, Restorer
from dpd.distribution.jobs.run import Work
from dpd.distribution.jobs.store import JobStore
from dpd.distribution.jobs.workers import Workers
from dpd.distribution.pulling.schedule import Grid
from dpd.distribution.state_book import StateBook
from dpd.settings import Settings

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0  # for a piece of work to notice that it is to stop


@dataclass(frozen=True, slots=True)
class Means:
    """What distribution works with. `works` are the kinds beside the four of one package; `removed` hears of each version
    that a job has taken out."""

    puller: Puller
    restorer: Restorer
    works: Mapping[JobKind, Work]
    tell: Tell
    removed: Callable[[Content], None] = lambda content: None


class Distribution:
    """Jobs, their states and maintenance. Every method may be called from any thread, and blocks for a disk at most."""

    def __init__(self, settings: Settings, library: Library, database: Database, means: Means) -> None:
        """Open jobs go on, and what ought to be here and is not is ordered again, as soon as it is started."""
        self._library = library
        self._tell = means.tell
        self.store = JobStore(database)
        self.maintenance = Maintenance(self.store)
        self._work = ContentWork(
            library,
            means.puller,
            means.restorer,
            self.store,
            settings.library,
            tell=means.tell,
            removed=means.removed,
        )
        self.desk = JobDesk(
            self.store,
            {**self._work.works(), **means.works},
            settings.distribution,
            tell=means.tell,
            holds=Holds(self.maintenance, Grid.of(settings.distribution)),
            changed=self._follow,
        )
        self.states = StateBook(library, self.store, self.desk, means.tell)
        self._workers = Workers(self.desk, settings.distribution.concurrent_jobs)
        self._reconcile()

    def _reconcile(self) -> None:
        """Where the store lacks what was brought here, say so and order it again: the reported state is the store's own."""
        wanted = self.store.wanted()
        here = self._library.versions() if wanted else set()
        for package_id, version in wanted:
            if (package_id, version) in here:
                continue
            jobs = self.store.telling([package_id]).get(package_id, [])
            if any(job.is_open and job.kind is JobKind.REMOVE for job in jobs):
                continue
            job = self.desk.submit(JobOrder(JobKind.DISTRIBUTE, package_id, version, actor="reconcile"))
            log.warning("content missing", extra={"package_id": package_id, "source_version": version, "job": job.id})
            self._tell("content.missing", {"package_id": package_id, "source_version": version, "job": job.id})

    def start(self) -> None:
        """Begin to work off jobs."""
        self._workers.start()

    def apply(self, settings: Settings) -> None:
        """Other settings from now on."""
        self._work.settings = settings.library
        self.desk.apply(settings.distribution, Grid.of(settings.distribution))

    def drain(self) -> None:
        """Begin nothing any more; what runs stops where it is and goes on at the next start."""
        self.desk.drain()

    def stop(self) -> None:
        """Drain, and wait for the threads. Idempotent, also before `start`."""
        self.desk.drain()
        if not self._workers.join(STOP_TIMEOUT_S):
            log.warning("jobs did not stop in time; they go on at the next start", extra={"jobs": self.desk.running})

    def expect_removal(self, package_id: str, source_version: int | None) -> None:
        """Somebody takes this version (None: all) out without a job: it is not to be fetched again."""
        self.store.unwant(package_id, source_version)

    def noticed(self, package_id: str) -> None:
        """Its content has come or gone without a job: where that changes its state, tell."""
        self.states.note(package_id)

    def _follow(self, job: Job) -> None:
        self.states.note(job.package_id)
