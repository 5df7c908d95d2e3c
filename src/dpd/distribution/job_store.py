# SPDX-License-Identifier: Apache-2.0
"""The jobs on disk: each change of one is a transaction, so that after a power cut every job is open or ended, and once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from dpd.database import Database
from dpd.distribution.job import BRINGING, Job, JobKind, JobOrder, JobState, OptionValue, Priority
from dpd.errors import JobNotFound

KEPT_S = 30 * 86400.0  # an ended job is kept so long; the last one of each package stays
_COLUMNS = (
    "id, kind, package_id, source_version, priority, state, created_at, started_at, ended_at, attempts, next_try_at, "
    "done_bytes, total_bytes, message, error, stopping, actor, options"
)
_IS_OPEN = "state IN ('queued', 'running', 'waiting')"


class JobStore:
    """Jobs, and which content is wanted here: what a job has brought and nobody has taken out since. Any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- jobs

    def add(self, order: JobOrder, at: float) -> tuple[Job, bool]:
        """The job of this order: the open one where there is one (False), else a new one (True).

        The more urgent priority holds. A new one that takes a package out also ends its being wanted.
        """
        options = _encode(order.options)
        with self._database.transaction() as connection:
            found = _find_open(connection, order, options)
            if found is not None:
                urgent = min(found.priority, order.priority)
                connection.execute("UPDATE job SET priority = ? WHERE id = ?", (urgent, found.id))
                return _job(_row(connection, found.id)), False
            cursor = connection.execute(
                "INSERT INTO job VALUES (NULL, ?, ?, ?, ?, ?, 'queued', ?, 0, 0, 0, 0, 0, 0, '', '', '', ?)",
                (order.kind, order.package_id, order.source_version, options, order.priority, at, order.actor),
            )
            if order.kind is JobKind.REMOVE:
                _unwant(connection, order.package_id, order.source_version)
            return _job(_row(connection, cursor.lastrowid)), True

    def write(self, job: Job) -> None:
        """Keep what has changed of it; its `source_version` may only once it has ended, since it is part of what tells orders
        apart. A job that has brought its package makes that version wanted, in the same step."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE job SET source_version = ?, priority = ?, state = ?, started_at = ?, ended_at = ?, attempts = ?, "
                "next_try_at = ?, done_bytes = ?, total_bytes = ?, message = ?, error = ?, stopping = ? WHERE id = ?",
                (
                    job.source_version,
                    job.priority,
                    job.state,
                    job.started_at,
                    job.ended_at,
                    job.attempts,
                    job.next_try_at,
                    job.done_bytes,
                    job.total_bytes,
                    job.message,
                    job.error,
                    job.stopping,
                    job.id,
                ),
            )
            if job.state is JobState.DONE and job.kind in BRINGING and job.source_version is not None:
                wanted = job.package_id, job.source_version, job.ended_at
                connection.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", wanted)

    def find(self, id: int) -> Job:
        """Raises JobNotFound."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM job WHERE id = ?", id)
        if not rows:
            raise JobNotFound(f"no job {id}; `dpd job list --all` shows those there are")
        return _job(rows[0])

    def open_jobs(self) -> list[Job]:
        """Those that run or will, oldest first."""
        return [_job(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM job WHERE {_IS_OPEN} ORDER BY id")]

    def page(self, before: int | None, limit: int, package_id: str = "", state: JobState | None = None) -> list[Job]:
        """At most `limit` jobs with lower ids than `before`, the newest first."""
        conditions, values = ["id < ?"], [1 << 62 if before is None else before]
        more: list[Any] = []
        if package_id:
            conditions.append("package_id = ?")
            more.append(package_id)
        if state is not None:
            conditions.append("state = ?")
            more.append(state)
        query = f"SELECT {_COLUMNS} FROM job WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        return [_job(row) for row in self._database.rows(query, *values, *more, limit)]

    def telling(self, package_ids: Sequence[str]) -> dict[str, list[Job]]:
        """Of each package the jobs that its state is told by: all open ones and the last that ended
        of those that bring it or take it out, oldest first."""
        told: dict[str, list[Job]] = {}
        marks = ",".join("?" * len(package_ids))
        query = (
            f"SELECT {_COLUMNS} FROM job WHERE package_id IN ({marks}) AND ({_IS_OPEN} OR id IN ("
            f"SELECT max(id) FROM job WHERE package_id IN ({marks}) AND NOT {_IS_OPEN} AND kind IN "
            "('distribute', 'update', 'redistribute', 'remove') GROUP BY package_id)) ORDER BY id"
        )
        for row in self._database.rows(query, *package_ids, *package_ids):
            job = _job(row)
            told.setdefault(job.package_id, []).append(job)
        return told

    def trim(self, now: float) -> int:
        """Forget jobs that ended long ago; how many."""
        with self._database.transaction() as connection:
            return connection.execute(
                f"DELETE FROM job WHERE NOT {_IS_OPEN} AND ended_at < ? AND id NOT IN "
                "(SELECT max(id) FROM job WHERE package_id != '' GROUP BY package_id)",
                (now - KEPT_S,),
            ).rowcount

    # ---- what is wanted

    def packages(self) -> list[str]:
        """Every package that jobs or wishes speak of."""
        query = "SELECT package_id FROM job WHERE package_id != '' UNION SELECT package_id FROM wanted ORDER BY 1"
        return [package_id for (package_id,) in self._database.rows(query)]

    def wanted(self) -> list[tuple[str, int]]:
        """(package, version) of what ought to be here."""
        return [
            tuple(row) for row in self._database.rows("SELECT package_id, source_version FROM wanted ORDER BY 1, 2")
        ]

    def unwant(self, package_id: str, source_version: int | None = None) -> None:
        """This version, or all of the package, may be missing from now on: somebody takes it out."""
        with self._database.transaction() as connection:
            _unwant(connection, package_id, source_version)

    # ---- facts

    def fact(self, name: str) -> str:
        """ "" where nothing was noted."""
        rows = self._database.rows("SELECT value FROM fact WHERE name = ?", name)
        return rows[0][0] if rows else ""

    def note_fact(self, name: str, value: str) -> None:
        """Keep it over restarts."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))


def _find_open(connection: sqlite3.Connection, order: JobOrder, options: str) -> Job | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM job WHERE {_IS_OPEN} AND kind = ? AND package_id = ? "
        "AND ifnull(source_version, 0) = ? AND options = ?",
        (order.kind, order.package_id, order.source_version or 0, options),
    ).fetchone()
    return None if row is None else _job(row)


def _row(connection: sqlite3.Connection, id: int | None) -> Any:
    return connection.execute(f"SELECT {_COLUMNS} FROM job WHERE id = ?", (id,)).fetchone()


def _unwant(connection: sqlite3.Connection, package_id: str, source_version: int | None) -> None:
    connection.execute(
        "DELETE FROM wanted WHERE package_id = ?1 AND (?2 IS NULL OR source_version = ?2)", (package_id, source_version)
    )


def _encode(options: Mapping[str, OptionValue]) -> str:
    """Canonical, since equal options make equal orders."""
    return json.dumps(dict(options), sort_keys=True, separators=(",", ":"))


def _job(row: Any) -> Job:
    *plain, options = row
    fields: list[Any] = [*plain, json.loads(options)]
    fields[1], fields[4], fields[5] = JobKind(fields[1]), Priority(fields[4]), JobState(fields[5])
    return Job(*fields)
