# SPDX-License-Identifier: Apache-2.0
"""Which machine was given which required deployment, so that none is imaged twice; and how many were in the last hour."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dpd.site.database import SiteDatabase
from dpd.site.records import Run, SiteError, SiteNotFound

log = logging.getLogger(__name__)

HOUR_S = 3600.0
STEP_S = 0.001
CAPACITY = 250_000  # some 60 MB; none is dropped to make room, since that would image a machine again

MAX_BOOTS = 1_000_000  # as many as pxe.max_required_boots_per_hour may say


class Stage(StrEnum):
    """Where a machine is in its task sequence."""

    RUNNING = "running"  # who asks for a network boot now was interrupted, and begins anew
    RESTARTING = "restarting"  # it is to start what it has on its disk
    OVER = "over"  # the boot in which it took the sequence is no more under way


@dataclass(frozen=True, slots=True)
class Work:
    """The task sequence that a machine has taken, which may take until a moment."""

    deployment: int
    until: float
    stage: Stage = Stage.RUNNING


class RunBook:
    """Runs are added to in place; the last one that a machine was given counts until somebody clears it. An answer that begins a run
    does not wait for a change of policy to end."""

    def __init__(self, database: SiteDatabase) -> None:
        self._database = database
        self._lock = threading.RLock()  # taken behind the database's own, never before it
        self._unwritten: dict[tuple[int, str], Run] = {}
        long_ago = database.clock() - HOUR_S
        database.write(lambda c: c.execute("DELETE FROM required_boots WHERE at < ?", (long_ago,)))
        self._boots = [at for (at,) in database.rows("SELECT at FROM required_boots ORDER BY at")]
        self._work: dict[str, Work] = {}  # by machine; whoever knows the task sequences tells it anew after a start
        self.still_restarts: Callable[[str], bool] = lambda machine: True  # whether nobody has given it up since
        self.revision = 0  # goes up with each change
        self.before_clear: Callable[[Sequence[Run]], None] = lambda runs: None  # whoever is to tell others of it
        self.cleared_at: Callable[[int, str], float] = lambda deployment, machine: (
            0.0
        )  # when what was cleared had begun
        self.load()

    def load(self) -> None:
        """Read the runs anew, after something else of the store has gone and taken its runs with it."""
        with self._lock:
            found: dict[int, dict[str, Run]] = {}
            for deployment, machine, *rest in self._database.rows("SELECT * FROM runs"):
                run = Run(deployment, sys.intern(machine), *rest)
                found.setdefault(deployment, {})[run.machine] = run
            for run in self._unwritten.values():
                found.setdefault(run.deployment, {})[run.machine] = run
            self._runs = found  # by deployment, then by machine: a decision looks at small tables
            self._count = sum(map(len, found.values()))
            self.revision += 1

    def find(self, deployment: int, machine: str) -> Run | None:
        """None where the machine has not been given it. `machine`: a computer's name in lower case, or an unknown one's MAC."""
        of_deployment = self._runs.get(deployment)
        return of_deployment.get(machine) if of_deployment is not None else None

    def all(self) -> list[Run]:
        """In no order."""
        return [run for runs in list(self._runs.values()) for run in list(runs.values())]

    def of_deployment(self, deployment: int) -> list[Run]:
        """The first one first."""
        return sorted(self._runs.get(deployment, {}).values(), key=lambda run: run.started_at)

    def start(self, run: Run, *, again: bool = False) -> None:
        """A machine is given a required deployment; what it was given before stands, unless this is `again`. Where the disk
        refuses, memory remembers until the daemon ends."""
        with self._lock:
            if self.find(run.deployment, run.machine) is not None and not again:
                return
            at, run = run.started_at, self._in_order(run)
            self._keep(run)
            self.revision += 1
            insort(self._boots, at)
            del self._boots[:-MAX_BOOTS]
            self._write(run, lambda c: _insert(c, run, at))

    def _in_order(self, run: Run) -> Run:
        """A clock that was put back makes no run older than the one before it: whoever compares the two would take it for done
        with, and give it again."""
        before = self.find(run.deployment, run.machine)
        earlier = max(before.started_at if before is not None else 0.0, self.cleared_at(run.deployment, run.machine))
        return run if run.started_at > earlier else replace(run, started_at=earlier + STEP_S)

    def _keep(self, run: Run) -> None:
        of_deployment = self._runs.setdefault(run.deployment, {})
        self._count += run.machine not in of_deployment
        of_deployment[run.machine] = run

    def finish(self, deployment: int, machine: str, at: float) -> None:
        """The machine has fetched the last of its boot image: the next time it asks, it has run."""
        with self._lock:
            run = self.find(deployment, machine)
            if run is None or run.finished_at:
                return
            finished = replace(run, finished_at=at)
            self._keep(finished)
            self.revision += 1
            self._write(finished, lambda c: c.execute(_WRITE, _row(finished)))

    def note_work(self, machine: str, work: Work) -> None:
        """Where the machine is in its task sequence from now on."""
        if len(self._work) < CAPACITY or machine in self._work:
            self._work[machine] = work

    def forget_work(self, machine: str) -> None:
        """It begins anew. Idempotent."""
        self._work.pop(machine, None)

    def is_restarting(self, machine: str, at: float) -> bool:
        """Whether a machine is to start what its task sequence has put on its disk."""
        work = self.work_of(machine, at)
        return work is not None and work.stage is Stage.RESTARTING and self.still_restarts(machine)

    def work_of(self, machine: str, at: float) -> Work | None:
        """What a machine is at."""
        work = self._work.get(machine)
        return work if work is not None and at < work.until else None

    def _write(self, run: Run, work: Callable[[sqlite3.Connection], object]) -> None:
        key = run.deployment, run.machine
        try:
            self._database.write(work)
        except SiteError as error:
            self._unwritten[key] = run
            log.error("run not written", extra={"mac": run.mac, "deployment": run.deployment, "error": str(error)})
        else:
            self._unwritten.pop(key, None)

    def clear(self, deployment: int, machine: str | None, actor: str) -> int:
        """Let one machine, or with None every one, have it once more. Raises SiteNotFound where that machine has not run it."""
        with self._database.lock:
            gone = [run for run in self.of_deployment(deployment) if machine in (None, run.machine)]
            if machine is not None and not gone:
                raise SiteNotFound(
                    f"{machine} has not run deployment {deployment}; `dpd deployment show {deployment}` shows who has"
                )
            detail = f"deployment {deployment}, {machine or 'every machine'}: {len(gone)}"
            self.before_clear(gone)
            keys = [(run.deployment, run.machine) for run in gone]
            self._forget_unwritten(keys)
            for run in gone:
                self.forget_work(run.machine)
            self._database.change(actor, "runs cleared", detail, lambda c: c.executemany("DELETE FROM runs WHERE deployment = ? AND machine = ?", keys), self.load, own=False)  # fmt: skip
            return len(gone)

    # ---- several distribution points

    def take(self, runs: Sequence[Run]) -> None:
        """Other points gave these: they stand in the place of what is known of their machines here, and count for no brake. Those
        of deployments that are not here are left out. Raises SiteError."""
        with self._lock:
            self._database.write(lambda c: c.executemany(_TAKE, [_row(run) for run in runs]))
            self._forget_unwritten([(run.deployment, run.machine) for run in runs])
            self.load()

    def drop(self, keys: Sequence[tuple[int, str]]) -> None:
        """Others have cleared these: (deployment, machine). Raises SiteError."""
        with self._lock:
            self._forget_unwritten(keys)
            for _, machine in keys:
                self.forget_work(machine)
            self._database.write(lambda c: c.executemany("DELETE FROM runs WHERE deployment = ? AND machine = ?", keys))
            self.load()

    def _forget_unwritten(self, keys: Sequence[tuple[int, str]]) -> None:
        with self._lock:
            for key in keys:
                self._unwritten.pop(key, None)

    def started_since(self, at: float) -> int:
        """How many machines were given one after a moment; a run that was cleared still counts."""
        boots = self._boots  # without the lock: an import of computers would hold answers up
        return len(boots) - bisect_right(boots, at)

    @property
    def is_full(self) -> bool:
        return self._count >= CAPACITY


_WRITE = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)"
_TAKE = """
INSERT OR REPLACE INTO runs SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM deployments WHERE id = ?1)
"""


def _row(run: Run) -> tuple[object, ...]:
    return run.deployment, run.machine, run.mac, run.started_at, run.finished_at


def _insert(connection: sqlite3.Connection, run: Run, at: float) -> None:
    connection.execute(_WRITE, _row(run))
    connection.execute("INSERT INTO required_boots VALUES (NULL, ?)", (at,))
