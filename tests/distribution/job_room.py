# SPDX-License-Identifier: Apache-2.0
"""A desk on a real file, with a clock that the test turns and no threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dpd.content_settings import DistributionSettings
from dpd.database import Database
from dpd.distribution.database import open_database
from dpd.distribution.jobs.desk import JobDesk
from dpd.distribution.jobs.holds import Holds
from dpd.distribution.jobs.job import JobKind, Priority
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.ports import Gate
from dpd.distribution.jobs.run import JobRun, Work
from dpd.distribution.jobs.store import JobStore
from dpd.telemetry.events import Value

EPOCH = 1_800_000_000.0


@dataclass(slots=True)
class Clock:
    """Both clocks of a machine; `wall` may be set, `mono` only goes on."""

    wall: float = EPOCH
    mono: float = 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@dataclass(slots=True)
class Told:
    """Every event, as it was told."""

    events: list[tuple[str, dict[str, Value]]] = field(default_factory=list)

    def __call__(self, event: str, fields: Mapping[str, Value]) -> None:
        self.events.append((event, dict(fields)))

    def names(self, prefix: str = "") -> list[str]:
        return [name for name, _ in self.events if name.startswith(prefix)]


def nothing(run: JobRun) -> None:
    """Work that is done at once."""


class EightToTen:
    """High priority always, others in two hours of the day; UTC."""

    def allows(self, priority: Priority, at: float) -> bool:
        return priority is Priority.HIGH or 8 <= at % 86400 / 3600 < 10

    def opens_at(self, priority: Priority, at: float) -> float:
        if self.allows(priority, at):
            return at
        today = at - at % 86400 + 8 * 3600
        return today if today > at else today + 86400


class Desk:
    """A desk that can be killed and opened again; `work` and the clock stay."""

    def __init__(
        self,
        path: Path,
        work: Mapping[JobKind, Work] | None = None,
        settings: DistributionSettings | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.path = path
        self.clock = Clock()
        self.told = Told()
        self.settings = settings or DistributionSettings()
        self.work: Mapping[JobKind, Work] = work or dict.fromkeys(JobKind, nothing)
        self.gate = gate
        self._open()

    def _open(self) -> None:
        self.database: Database = open_database(self.path)
        self.store = JobStore(self.database)
        self.maintenance = Maintenance(self.store)
        wall, mono = lambda: self.clock.wall, lambda: self.clock.mono
        holds = Holds(self.maintenance, self.gate, clock=wall, monotonic=mono)
        self.desk = JobDesk(
            self.store, self.work, self.settings, tell=self.told, holds=holds, clock=wall, monotonic=mono
        )

    def restart(self) -> JobDesk:
        """As after kill -9: nobody was told to end, the file is as it is."""
        self.database.close()
        self._open()
        return self.desk

    def work_off(self) -> int:
        """Run what may run now, one job after the other; how many tries that were."""
        tries = 0
        while (run := self.desk.claim()) is not None:
            self.desk.perform(run)
            tries += 1
        return tries
