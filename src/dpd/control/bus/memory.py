# SPDX-License-Identifier: Apache-2.0
"""What must not be forgotten of the bus over a restart: which asks have been begun, which runs were cleared, which packages the
site has spoken of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dpd.bus.messages import SharedRun
from dpd.database import Database
from dpd.errors import BusError
from dpd.site.records import Run

KEPT_ASKS_S = 7 * 86400.0  # an asker asks again within minutes

_SCHEMA = """
CREATE TABLE asks (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX asks_by_age ON asks (at);
CREATE TABLE clears (
  deployment INTEGER NOT NULL, machine TEXT NOT NULL, started_at REAL NOT NULL, finished_at REAL NOT NULL,
  PRIMARY KEY (deployment, machine)
) WITHOUT ROWID;
CREATE TABLE spoken (package_id TEXT NOT NULL, source_version INTEGER NOT NULL, PRIMARY KEY (package_id, source_version))
  WITHOUT ROWID;
"""

# Also what the bus has heard of: a run that begins behind a clock which was put back has to stand behind it (`RunBook.cleared_at`).
_TOLD_CLEARS = "ALTER TABLE clears ADD COLUMN is_told INTEGER NOT NULL DEFAULT 0;"


class BusMemory:
    """One file. Every method blocks for its disk, and may be called from any thread. Raises BusError."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = Database(path, [_SCHEMA, _TOLD_CLEARS], error=BusError, full=BusError)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM asks WHERE at < ?", (clock() - KEPT_ASKS_S,))

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    # ---- asks

    def begin_ask(self, id: str) -> bool:
        """Whether this is the first time; on disk before anything is done."""
        with self._database.transaction() as connection:
            done = connection.execute("INSERT OR IGNORE INTO asks VALUES (?, ?)", (id, self._clock()))
            return done.rowcount == 1

    # ---- runs

    def note_clears(self, runs: Iterable[Run]) -> None:
        """These are being cleared here; the bus is to hear of it."""
        rows = [(run.deployment, run.machine, run.started_at, run.finished_at) for run in runs]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO clears VALUES (?, ?, ?, ?, 0)", rows)

    def clears(self) -> list[SharedRun]:
        """What the bus has not heard yet, in no order."""
        rows = self._database.rows("SELECT deployment, machine, started_at, finished_at FROM clears WHERE NOT is_told")
        return [SharedRun(row[0], row[1], "", row[2], row[3], is_cleared=True) for row in rows]

    def note_told(self, runs: Iterable[SharedRun]) -> None:
        """The bus has heard of these; of a later one of the same machine it has not."""
        rows = [(run.deployment, run.machine, run.started_at) for run in runs]
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE clears SET is_told = 1 WHERE deployment = ? AND machine = ? AND started_at <= ?", rows
            )

    def note_heard(self, clears: Iterable[SharedRun]) -> None:
        """The bus told of these; what was cleared here later stands."""
        rows = [(run.deployment, run.machine, run.started_at, run.finished_at) for run in clears]
        with self._database.transaction() as connection:
            connection.executemany(_HEARD, rows)

    def cleared(self) -> dict[tuple[int, str], float]:
        """When the last run that was cleared had begun, by deployment and machine."""
        rows = self._database.rows("SELECT deployment, machine, started_at FROM clears")
        return {(row[0], row[1]): row[2] for row in rows}

    def keep_clears_of(self, deployments: Iterable[int]) -> None:
        """What the bus has heard of others is forgotten: there is nothing left that could be run."""
        kept = set(deployments)
        gone = [
            row
            for row in self._database.rows("SELECT DISTINCT deployment FROM clears WHERE is_told")
            if row[0] not in kept
        ]
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM clears WHERE is_told AND deployment = ?", gone)

    # ---- desired content

    def spoken(self) -> set[tuple[str, int]]:
        """Packages with their versions, 0 for the newest, that the site has wanted here."""
        return {(row[0], row[1]) for row in self._database.rows("SELECT * FROM spoken")}

    def speak_of(self, packages: Iterable[tuple[str, int]]) -> None:
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO spoken VALUES (?, ?)", list(packages))

    def speak_no_more_of(self, packages: Iterable[tuple[str, int]]) -> None:
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM spoken WHERE package_id = ? AND source_version = ?", list(packages))


_HEARD = """
INSERT INTO clears VALUES (?1, ?2, ?3, ?4, 1)
ON CONFLICT (deployment, machine) DO UPDATE SET started_at = ?3, finished_at = ?4, is_told = 1 WHERE started_at < ?3
"""
