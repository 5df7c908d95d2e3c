# SPDX-License-Identifier: Apache-2.0
"""What must not be forgotten of the bus over a restart: which asks have been begun, which runs were cleared
here, which
packages the site has spoken of."""

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


class BusMemory:
    """One file. Every method blocks for its disk, and may be called from any thread. Raises BusError."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = Database(path, [_SCHEMA], error=BusError, full=BusError)
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
            connection.executemany("INSERT OR REPLACE INTO clears VALUES (?, ?, ?, ?)", rows)

    def clears(self) -> list[SharedRun]:
        """What the bus has not heard yet, in no order."""
        rows = self._database.rows("SELECT deployment, machine, started_at, finished_at FROM clears")
        return [SharedRun(row[0], row[1], "", row[2], row[3], is_cleared=True) for row in rows]

    def forget_clears(self, runs: Iterable[SharedRun]) -> None:
        """The bus has heard of these; of a later one of the same machine it has not."""
        rows = [(run.deployment, run.machine, run.started_at) for run in runs]
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM clears WHERE deployment = ? AND machine = ? AND started_at <= ?", rows)

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
