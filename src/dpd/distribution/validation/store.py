# SPDX-License-Identifier: Apache-2.0
"""validation.db: when content was validated, how far a validation is, and what was found damaged.

A validation reads for hours; so how far it is survives a restart, and so does what it found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dpd.database import Database
from dpd.errors import ContentError, LibraryFull

KEPT_RUNS = 100
KEPT_DAMAGE = 200  # of what is no longer so

_TABLES = """
CREATE TABLE run (
  id INTEGER PRIMARY KEY AUTOINCREMENT, job_id INTEGER NOT NULL, package_id TEXT NOT NULL, state TEXT NOT NULL,
  started_at REAL NOT NULL, ended_at REAL NOT NULL, contents INTEGER NOT NULL, read_bytes INTEGER NOT NULL,
  after_package TEXT NOT NULL, after_version INTEGER NOT NULL
);
CREATE UNIQUE INDEX run_of_job ON run (job_id);
CREATE TABLE damage (
  sha256 TEXT PRIMARY KEY, package_id TEXT NOT NULL, source_version INTEGER NOT NULL, reason TEXT NOT NULL,
  size_bytes INTEGER NOT NULL, state TEXT NOT NULL, found_at REAL NOT NULL, ended_at REAL NOT NULL, note TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX damage_by_state ON damage (state, ended_at);
CREATE TABLE moment (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
_RUN = "id, job_id, package_id, state, started_at, ended_at, contents, read_bytes, after_package, after_version"
_COUNTS = "state = 'done' AND package_id = ''"  # everything was read: the last of these tells the age, so it stays
_DAMAGE = "sha256, package_id, source_version, reason, size_bytes, state, found_at, ended_at, note"


class RunState(StrEnum):
    """Of a validation. `stopped` may go on: its job waits, or was interrupted. `incomplete`: some content could not be looked at,
    such as that of a root that is not there."""

    RUNNING = "running"
    DONE = "done"
    INCOMPLETE = "incomplete"
    STOPPED = "stopped"


class DamageState(StrEnum):
    """Of a blob that was found damaged. `repaired`: it has been read again since and is right; `removed`: no content has it."""

    DAMAGED = "damaged"
    REPAIRED = "repaired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ValidationRun:
    """One validation, of everything where `package_id` is "". Moments are seconds since the epoch, 0 where they have not
    come. It goes on behind (`after_package`, `after_version`)."""

    id: int
    job_id: int
    package_id: str
    state: RunState
    started_at: float
    ended_at: float
    contents: int
    read_bytes: int
    after_package: str = ""
    after_version: int = 0


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """A blob that was found damaged, and a content that has it. `note` is what came of it, in words."""

    sha256: str
    package_id: str
    source_version: int
    reason: str
    size_bytes: int
    state: DamageState
    found_at: float
    ended_at: float = 0.0
    note: str = ""


class ValidationStore:
    """The rows. Every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = Database(path, [_TABLES], error=ContentError, full=LibraryFull)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO moment VALUES ('since', ?)", (clock(),))

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    # ---- runs

    def begin(self, job_id: int, package_id: str) -> ValidationRun:
        """The run of this job: a new one, or the one that it began before it was stopped."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO run (job_id, package_id, state, started_at, ended_at, contents, read_bytes, after_package,"
                " after_version) VALUES (?, ?, 'running', ?, 0, 0, 0, '', 0)"
                " ON CONFLICT (job_id) DO UPDATE SET state = 'running', ended_at = 0",
                (job_id, package_id, self._clock()),
            )
            connection.execute(
                "DELETE FROM run WHERE id NOT IN (SELECT id FROM run ORDER BY id DESC LIMIT ?)"
                f" AND id NOT IN (SELECT id FROM run WHERE {_COUNTS} ORDER BY ended_at DESC LIMIT 1)",
                (KEPT_RUNS,),
            )
            row = connection.execute(f"SELECT {_RUN} FROM run WHERE job_id = ?", (job_id,)).fetchone()
        return _run(row)

    def advance(self, run: ValidationRun, package_id: str, source_version: int, read_bytes: int) -> None:
        """This content has been read; `read_bytes` more were."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE run SET contents = contents + 1, read_bytes = read_bytes + ?, after_package = ?,"
                " after_version = ? WHERE id = ?",
                (read_bytes, package_id, source_version, run.id),
            )

    def end(self, run: ValidationRun, state: RunState) -> None:
        """It has read everything, or was stopped."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE run SET state = ?, ended_at = ? WHERE id = ?", (state, self._clock(), run.id))

    def runs(self, limit: int) -> list[ValidationRun]:
        """The newest first."""
        return [_run(row) for row in self._database.rows(f"SELECT {_RUN} FROM run ORDER BY id DESC LIMIT ?", limit)]

    def validated_at(self) -> float:
        """When everything had been read the last time; 0 for never."""
        query = f"SELECT max(ended_at) FROM run WHERE {_COUNTS}"
        return float(self._database.rows(query)[0][0] or 0)

    def age_s(self) -> float:
        """How long ago that was; counted from this file's making where it never was."""
        return max(0.0, self._clock() - (self.validated_at() or self._moment("since")))

    # ---- the schedule

    def last_ordered_at(self) -> float:
        """The due time for which validation was ordered last; no due time from before this file counts as missed."""
        return max(self._moment("ordered"), self._moment("since"))

    def note_ordered(self, due_at: float) -> None:
        """It has been ordered for this due time."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO moment VALUES ('ordered', ?)", (due_at,))

    def _moment(self, name: str) -> float:
        rows = self._database.rows("SELECT at FROM moment WHERE name = ?", name)
        return float(rows[0][0]) if rows else 0.0

    # ---- damage

    def note_damage(self, sha256: str, package_id: str, source_version: int, reason: str, size_bytes: int) -> bool:
        """A blob was found damaged. False where that is known already."""
        with self._database.transaction() as connection:
            known = connection.execute(
                "SELECT 1 FROM damage WHERE sha256 = ? AND state = 'damaged'", (sha256,)
            ).fetchone()
            connection.execute(
                f"INSERT INTO damage ({_DAMAGE}) VALUES (?, ?, ?, ?, ?, 'damaged', ?, 0, '')"
                " ON CONFLICT (sha256) DO UPDATE SET package_id = excluded.package_id, reason = excluded.reason,"
                " source_version = excluded.source_version, state = 'damaged', ended_at = 0,"
                " found_at = iif(state = 'damaged', found_at, excluded.found_at)",
                (sha256, package_id, source_version, reason, size_bytes, self._clock()),
            )
        return known is None

    def explain(self, sha256: str, note: str) -> None:
        """Why a damaged blob is still so, in words."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE damage SET note = ? WHERE sha256 = ?", (note, sha256))

    def end_damage(self, sha256: str, state: DamageState, note: str) -> bool:
        """It is no longer so. False where it was not known to be."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE damage SET state = ?, ended_at = ?, note = ? WHERE sha256 = ? AND state = 'damaged'",
                (state, self._clock(), note, sha256),
            ).rowcount
            connection.execute(
                "DELETE FROM damage WHERE state != 'damaged' AND sha256 NOT IN"
                " (SELECT sha256 FROM damage WHERE state != 'damaged' ORDER BY ended_at DESC LIMIT ?)",
                (KEPT_DAMAGE,),
            )
        return bool(changed)

    def damage(self, limit: int) -> list[DamagedBlob]:
        """What is damaged now, then what was, the latest first."""
        query = f"SELECT {_DAMAGE} FROM damage ORDER BY state != 'damaged', ended_at DESC, found_at DESC LIMIT ?"
        return [_damaged(row) for row in self._database.rows(query, limit)]

    def open_damage(self) -> list[DamagedBlob]:
        """What is damaged now, the oldest first."""
        query = f"SELECT {_DAMAGE} FROM damage WHERE state = 'damaged' ORDER BY found_at, sha256"
        return [_damaged(row) for row in self._database.rows(query)]

    def damage_counts(self) -> dict[str, int]:
        """How many blobs are in each state; every state is there."""
        rows = self._database.rows("SELECT state, count(*) FROM damage GROUP BY state")
        return {state.value: 0 for state in DamageState} | {state: int(count) for state, count in rows}


def _run(row: Any) -> ValidationRun:
    id, job_id, package_id, state, *others = row
    return ValidationRun(id, job_id, package_id, RunState(state), *others)


def _damaged(row: Any) -> DamagedBlob:
    sha256, package_id, source_version, reason, size_bytes, state, *others = row
    return DamagedBlob(sha256, package_id, source_version, reason, size_bytes, DamageState(state), *others)
