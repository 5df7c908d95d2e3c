# SPDX-License-Identifier: Apache-2.0
"""The jobs on disk: each change of one is a transaction, so that after a power cut every job is open or ended, and once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpd.database import Database
from dpd.distribution.jobs.job import BRINGING, Job, JobKind, JobOrder, JobState, OptionValue, Priority
from dpd.errors import JobNotFound

KEPT_S = 30 * 86400.0  # an ended job is kept so long; the last one of each package stays
_COLUMNS = (
    "id, kind, package_id, source_version, priority, state, created_at, started_at, ended_at, attempts, next_try_at, "
    "done_bytes, total_bytes, message, error, stopping, actor, options, via"
)
_TELLING = "'distribute', 'update', 'redistribute', 'remove'"  # the kinds that say whether a package is here
_IS_OPEN = "state IN ('queued', 'running', 'waiting')"


@dataclass(frozen=True, slots=True)
class Added:
    """What came of an order: its job, whether that is new, and the jobs that it ended (or, while they run, is ending)."""

    job: Job
    is_new: bool
    overtaken: tuple[Job, ...] = ()


class JobStore:
    """Jobs, and which content is wanted here: what a job has brought and nobody has taken out since. Any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- jobs

    def add(self, order: JobOrder, at: float) -> Added:
        """The job of this order: the open one where there is one, else a new one. The more urgent priority holds, and the first
        that was ordered for another dpd keeps its `via`: each try needs it.

        The last word holds too: what brings a package here and what takes it out end each other, in the same step.
        """
        options = _encode(order.options)
        with self._database.transaction() as connection:
            found = _find_open(connection, order, options)
            if found is not None:
                urgent = min(found.priority, order.priority)
                via = _encode_via(found.via or order.via)
                connection.execute("UPDATE job SET priority = ?, via = ? WHERE id = ?", (urgent, via, found.id))
                return Added(_job(_row(connection, found.id)), is_new=False)
            cursor = connection.execute(
                "INSERT INTO job (kind, package_id, source_version, options, priority, created_at, actor, via, state, started_at, "
                "ended_at, attempts, next_try_at, done_bytes, total_bytes, message, error, stopping) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, 0, 0, 0, 0, '', '', '')",
                (*_said(order), options, order.priority, at, order.actor, _encode_via(order.via)),
            )
            job = _job(_row(connection, cursor.lastrowid))
            return Added(job, is_new=True, overtaken=_overtake(connection, job))

    def write(self, job: Job) -> None:
        """Keep what has changed of it; its `source_version` may only once it has ended, since it is part of what tells orders
        apart. In the same step,
        what a job has brought is wanted from then on, and what it has taken out is not."""
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
            if job.state is JobState.DONE:
                _note_wish(connection, job)

    def find(self, id: int) -> Job:
        """Raises JobNotFound."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM job WHERE id = ?", id)
        if not rows:
            raise JobNotFound(f"no job {id}; `dpd job list --all` shows those there are")
        return _job(rows[0])

    def open_jobs(self) -> list[Job]:
        """Those that run or will, oldest first."""
        return [_job(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM job WHERE {_IS_OPEN} ORDER BY id")]

    def ended(self, before: int | None, limit: int, package_id: str = "", state: JobState | None = None) -> list[Job]:
        """At most `limit` jobs that have ended, with lower ids than `before`, the newest first."""
        conditions: list[str] = [f"NOT {_IS_OPEN}", "id < ?"]
        values: list[Any] = [1 << 62 if before is None else before]
        if package_id:
            conditions.append("package_id = ?")
            values.append(package_id)
        if state is not None:
            conditions.append("state = ?")
            values.append(state)
        query = f"SELECT {_COLUMNS} FROM job WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        return [_job(row) for row in self._database.rows(query, *values, limit)]

    def telling(self, package_ids: Sequence[str]) -> dict[str, list[Job]]:
        """Of each package the jobs that its state is told by: all open ones and the last that ended
        of those that bring it or take it out, oldest first."""
        told: dict[str, list[Job]] = {}
        marks = ",".join("?" * len(package_ids))
        query = (
            f"SELECT {_COLUMNS} FROM job WHERE package_id IN ({marks}) AND ({_IS_OPEN} OR id IN ("
            f"SELECT max(id) FROM job WHERE package_id IN ({marks}) AND NOT {_IS_OPEN} AND kind IN ({_TELLING}) "
            "GROUP BY package_id)) ORDER BY id"
        )
        for row in self._database.rows(query, *package_ids, *package_ids):
            job = _job(row)
            told.setdefault(job.package_id, []).append(job)
        return told

    def unsettled(self) -> list[str]:
        """The packages whose state may come from a job: one is open, or one that tells has failed."""
        query = (
            f"SELECT package_id FROM job WHERE {_IS_OPEN} AND package_id != '' "
            f"UNION SELECT package_id FROM job WHERE state = 'failed' AND kind IN ({_TELLING})"
        )
        return [package_id for (package_id,) in self._database.rows(query)]

    def trim(self, now: float) -> int:
        """Forget jobs that ended long ago; how many."""
        with self._database.transaction() as connection:
            return connection.execute(
                f"DELETE FROM job WHERE NOT {_IS_OPEN} AND ended_at < ? AND id NOT IN "
                f"(SELECT max(id) FROM job WHERE package_id != '' AND kind IN ({_TELLING}) GROUP BY package_id)",
                (now - KEPT_S,),
            ).rowcount

    # ---- what is wanted

    def packages(self, after: str = "", limit: int = 1 << 62) -> list[str]:
        """The packages that jobs or wishes speak of, in their order, behind one of them."""
        query = (
            "SELECT package_id FROM job WHERE package_id > ?1 AND package_id != '' "
            "UNION SELECT package_id FROM wanted WHERE package_id > ?1 ORDER BY 1 LIMIT ?2"
        )
        return [package_id for (package_id,) in self._database.rows(query, after, limit)]

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


def _said(order: JobOrder) -> tuple[str, str, int | None]:
    return order.kind, order.package_id, order.source_version


def _find_open(connection: sqlite3.Connection, order: JobOrder, options: str) -> Job | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM job WHERE {_IS_OPEN} AND stopping = '' AND kind = ? AND package_id = ? "
        "AND ifnull(source_version, 0) = ? AND options = ?",
        (order.kind, order.package_id, order.source_version or 0, options),
    ).fetchone()
    return None if row is None else _job(row)


def _row(connection: sqlite3.Connection, id: int | None) -> Any:
    return connection.execute(f"SELECT {_COLUMNS} FROM job WHERE id = ?", (id,)).fetchone()


def _overtake(connection: sqlite3.Connection, job: Job) -> tuple[Job, ...]:
    """End the open jobs that this one contradicts; those that run are told to stop.

    Taking one version out does not contradict bringing the newest, taking out all of the package does.
    """
    if job.kind is JobKind.REMOVE:
        condition = "kind IN ('distribute', 'update', 'redistribute') AND (?2 IS NULL OR source_version = ?2)"
    elif job.kind in BRINGING:
        condition = "kind = 'remove' AND (source_version IS NULL OR source_version = ?2)"
    else:
        return ()
    query = f"SELECT id FROM job WHERE {_IS_OPEN} AND package_id = ?1 AND {condition} ORDER BY id"
    found = connection.execute(query, (job.package_id, job.source_version)).fetchall()
    for (id,) in found:
        values = {"reason": f"overtaken by {job}", "at": job.created_at, "id": id}
        connection.execute("UPDATE job SET stopping = :reason WHERE id = :id AND state = 'running'", values)
        connection.execute(
            "UPDATE job SET state = 'cancelled', message = :reason, ended_at = :at, next_try_at = 0 "
            "WHERE id = :id AND state != 'running'",
            values,
        )
    return tuple(_job(_row(connection, id)) for (id,) in found)


def _note_wish(connection: sqlite3.Connection, done: Job) -> None:
    """What was brought ought to be here from now on, what was taken out may be missing."""
    if done.kind is JobKind.REMOVE:
        _unwant(connection, done.package_id, done.source_version)
    elif done.kind in BRINGING and done.source_version is not None:
        wish = done.package_id, done.source_version, done.ended_at
        connection.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", wish)


def _unwant(connection: sqlite3.Connection, package_id: str, source_version: int | None) -> None:
    connection.execute(
        "DELETE FROM wanted WHERE package_id = ?1 AND (?2 IS NULL OR source_version = ?2)", (package_id, source_version)
    )


def _encode(options: Mapping[str, OptionValue]) -> str:
    """Canonical, since equal options make equal orders."""
    return json.dumps(dict(options), sort_keys=True, separators=(",", ":"))


def _encode_via(ids: Sequence[str]) -> str:
    return " ".join(ids)


def _job(row: Any) -> Job:
    *plain, options, via = row
    fields: list[Any] = [*plain, json.loads(options), tuple(via.split())]
    fields[1], fields[4], fields[5] = JobKind(fields[1]), Priority(fields[4]), JobState(fields[5])
    return Job(*fields)
