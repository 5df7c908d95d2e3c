# SPDX-License-Identifier: Apache-2.0
"""Everything of distribution in one place: made from the settings, started, told of other settings, and ended in order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from pathlib import Path

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.bundles.work import ExportWork, ImportWork
from dpd.distribution.database import open_database
from dpd.distribution.distribution import Distribution, Means
from dpd.distribution.jobs.events import Tell, tell_to
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, Priority
from dpd.distribution.jobs.run import Work
from dpd.distribution.library_work import LibraryWork
from dpd.distribution.metrics import EventStats, add_distribution, add_library, add_validation, counted
from dpd.distribution.pulling.fetch_on_miss import FetchOnMiss
from dpd.distribution.pulling.pull import SourcePuller
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.schedule import Grid
from dpd.distribution.pulling.trust import KeyRing
from dpd.distribution.validation.clock import ValidationClock
from dpd.distribution.validation.origins import RepairOrigins
from dpd.distribution.validation.repair import Repair
from dpd.distribution.validation.schedule import ValidationSchedule
from dpd.distribution.validation.store import ValidationStore
from dpd.distribution.validation.validation import Validation
from dpd.settings import Settings
from dpd.telemetry.events import EventLog, Value
from dpd.telemetry.metrics import MetricsRegistry

_CHANGES_STATE = frozenset({"content.damaged", "content.repaired", "content.imported"})


class OpenDistribution:
    """`core` has the jobs. `removed` may be set to who is to hear of each version that a job takes out."""

    def __init__(
        self,
        settings: Settings,
        library: Library,
        state_dir: Path,
        events: EventLog,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.library = library
        self.events = events
        library.makes_chunk_index = settings.library.chunk_index
        self.removed: Callable[[Content], None] = lambda content: None
        self.event_stats = EventStats()
        self.tell = self._following(counted(tell_to(events), self.event_stats))
        self._grid = Grid.of(settings.distribution)
        self._rng = rng or random.Random()
        with ExitStack() as stack:
            self._database = open_database(state_dir / "distribution.db")
            stack.callback(self._database.close)
            self.validations = ValidationStore(state_dir / "validation.db")
            stack.callback(self.validations.close)
            self._make_parts()
            stack.pop_all()

    def _make_parts(self) -> None:
        limit = RateLimit(lambda: self._grid.rate_bit_s(time.time()))
        self.puller = SourcePuller(
            self.settings.distribution,
            self.library,
            KeyRing(self._database),
            limit,
            tell=self.tell,
            rng=self._rng,
        )
        self.validation = self._make_validation()
        works: dict[JobKind, Work] = {
            **LibraryWork(self.library, self.tell).works(),
            JobKind.VALIDATE: self.validation,
            JobKind.EXPORT: ExportWork(self.library, self.tell),
            JobKind.IMPORT: ImportWork(self.library, self.trusted_keys, self.tell),
        }
        means = Means(self.puller, self.validation, works, self.tell, lambda content: self.removed(content))
        self.core = Distribution(self.settings, self.library, self._database, means)
        self.clock = ValidationClock(_times_of(self.settings), self.validations, self._order_validation)
        self.fetch = FetchOnMiss(self.puller, self._order_for_client)

    def _make_validation(self) -> Validation:
        origins = RepairOrigins(
            self.library,
            lambda: self.puller.sources,
            lambda check: self.puller.terms(check),
            self.puller.stats,
            self.tell,
            self._rng,
        )
        return Validation(
            self.library,
            self.validations,
            Repair(self.library, origins),
            may_repair=lambda: self.settings.library.repair,
            tell=self.tell,
        )

    def _following(self, tell: Tell) -> Tell:
        """The same; what changes the state of a package beside its own jobs is looked at there."""

        def tell_and_look(event: str, fields: Mapping[str, Value]) -> None:
            tell(event, fields)
            if event in _CHANGES_STATE:
                self.core.noticed(str(fields["package_id"]))

        return tell_and_look

    def trusted_keys(self) -> Set[bytes]:
        """The keys that may have signed a bundle: our own, and that which counts for each source of the settings. What was
        pinned for a source that is none any more, or has been given another key, is trusted no longer."""
        known = (self.puller.keys.known(source).public_key for source in self.puller.sources)
        return {self.library.public_key()} | {bytes.fromhex(key) for key in known if key}

    def _order_validation(self) -> Job:
        return self.core.desk.submit(JobOrder(JobKind.VALIDATE, priority=Priority.LOW, actor="schedule"))

    def _order_for_client(self, package_id: str, source_version: int | None, via: tuple[str, ...]) -> Job:
        self.core.maintenance.refuse_new_content()
        order = JobOrder(JobKind.DISTRIBUTE, package_id, source_version, Priority.HIGH, actor="client", via=via)
        return self.core.desk.submit(order)

    def start(self) -> None:
        """Begin to work off jobs, and to order validations."""
        self.core.start()
        self.clock.start()

    def apply(self, settings: Settings) -> None:
        """Other settings from now on."""
        self.settings = settings
        self._grid = Grid.of(settings.distribution)
        self.library.makes_chunk_index = settings.library.chunk_index
        self.puller.apply(settings.distribution)
        self.core.apply(settings)
        self.clock.apply(_times_of(settings))

    def drain(self) -> None:
        """Begin nothing any more; what runs stops where it is and goes on at the next start."""
        self.core.drain()

    def stop(self) -> None:
        """Blocks until the threads have ended. Idempotent, also before `start`."""
        self.clock.stop()
        self.fetch.close()
        self.core.stop()
        self.validations.close()
        self._database.close()

    def add_metrics(self, registry: MetricsRegistry) -> None:
        """dpd_library_*, dpd_distribution_*, dpd_pull_*, dpd_validation_*."""
        add_library(registry, self.library)
        add_validation(registry, self.validations, self.validation.stats)
        add_distribution(
            registry,
            states=self.core.states.counts,
            jobs=self.core.desk.standing,
            is_maintenance=lambda: bool(self.core.maintenance.reason),
            events=self.event_stats,
            pulls=self.puller.stats,
        )


def _times_of(settings: Settings) -> ValidationSchedule:
    return ValidationSchedule(settings.library.validate, settings.distribution.time_zone)
