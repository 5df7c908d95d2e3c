# SPDX-License-Identifier: Apache-2.0
"""The status messages of all points, each once, as long as the settings keep them.

A message's name is its point, the series of its spool and its sequence there, so one that comes again, after a lost acknowledgement or
a restart, is known by its name. Ids are the archive's own: they go up in the order in which messages came. How long one
is kept counts from then on too, since the clock of a point may say anything. To whoever reads, the archive is a series of its
own, as a point's spool is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dpd.bus.messages import StatusReport
from dpd.database import Database
from dpd.site_server.gaps import Missing, forget_series, note_gaps, settle_gaps
from dpd.telemetry.news import News
from dpd.telemetry.stats import counter, gauge
from dpd.telemetry.status_messages import SEVERITIES, Severity, StatusMessage, Value

MAX_PAGE = 1000
DAY_S = 86400.0

# A point that was given another name sends again what was not acknowledged under the one before; a host that was cloned says
# other things under the same numbers.
_INSERT = """
INSERT OR IGNORE INTO messages SELECT NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
WHERE NOT EXISTS (SELECT 1 FROM messages WHERE epoch = ?2 AND sequence = ?3 AND at = ?4 AND event = ?5 AND fields = ?8)
"""
_COLUMNS = "id, point, at, event, message_id, severity, fields"


@dataclass(slots=True)
class ArchiveStats:
    """What the archive counted."""

    stored: int = counter("Status messages of points that were stored")
    known: int = counter("Status messages of points that came once more and were not stored again")
    missing: int = counter(
        "Status messages that points have sent and that never came, such as from a leaf node that was full"
    )
    kept: int = gauge("Status messages in the archive")


class Archive:
    """Over the site server's file. Methods block on the disk; safe to use from any thread."""

    def __init__(self, database: Database, keep_days: int, *, clock: Callable[[], float] = time.time) -> None:
        self.stats = ArchiveStats()
        self.keep_days = keep_days
        self._database = database
        self._clock = clock
        self._news = News()
        self.epoch = str(database.rows("SELECT value FROM facts WHERE name = 'epoch'")[0][0])
        self.stats.kept = int(database.rows("SELECT count(*) FROM messages")[0][0])
        given = database.rows("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'")
        self._latest = int(given[0][0])  # also where all of them have been trimmed

    @property
    def taken(self) -> int:
        """The place in the hub's stream up to which it was taken in, as far as this file knows."""
        rows = self._database.rows("SELECT value FROM facts WHERE name = 'taken'")
        return int(rows[0][0]) if rows else 0

    def add(self, reports: Sequence[StatusReport], *, taken: int = 0) -> int:
        """On disk when it returns, with the place in the hub's stream that they go up to; how many of them are new. Raises
        SiteServerError."""
        now = self._clock()
        with self._database.transaction() as connection:
            before = connection.total_changes
            connection.executemany(_INSERT, (_row(report, now) for report in reports))
            new = connection.total_changes - before
            note_gaps(connection, [report for report in reports if report.point], now)
            if taken:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('taken', ?)", (str(taken),))
            (latest,) = connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        self.stats.stored += new
        self.stats.known += len(reports) - new
        self.stats.kept += new
        if new:
            self._latest = int(latest)
            self.release()
        return new

    def trim(self) -> int:
        """Forget what is older than is kept; how many went. Raises SiteServerError."""
        with self._database.transaction() as connection:
            begin = self._clock() - self.keep_days * DAY_S
            gone = connection.execute("DELETE FROM messages WHERE came_at < ?", (begin,)).rowcount
            forget_series(connection, begin)
        self.stats.kept -= gone
        return gone

    def settle(self) -> list[Missing]:
        """What lacks and will not come any more, each told once. Raises SiteServerError."""
        with self._database.transaction() as connection:
            missing = settle_gaps(connection, self._clock())
        self.stats.missing += sum(each.count for each in missing)
        return missing

    # ---- readers

    @property
    def latest(self) -> int:
        """The sequence of the newest message, 0 for none yet."""
        return self._latest

    @property
    def oldest(self) -> int:
        """The sequence of the oldest one that is kept; above `latest` where there is none."""
        ((oldest,),) = self._database.rows("SELECT min(id) FROM messages")
        return self._latest + 1 if oldest is None else int(oldest)

    def after(self, sequence: int, limit: int = MAX_PAGE, *, severity: Severity = Severity.INFO) -> list[StatusMessage]:
        """The messages with higher sequences, at least as severe, oldest first. Raises SiteServerError."""
        query = f"SELECT {_COLUMNS} FROM messages WHERE id > ? AND severity >= ? ORDER BY id LIMIT ?"
        return [_message(row) for row in self._database.rows(query, sequence, severity.rank, limit)]

    def last(self, limit: int, *, severity: Severity = Severity.INFO) -> list[StatusMessage]:
        """The newest messages, at least as severe, oldest of them first. Raises SiteServerError."""
        query = f"SELECT {_COLUMNS} FROM messages WHERE severity >= ? ORDER BY id DESC LIMIT ?"
        return [_message(row) for row in self._database.rows(query, severity.rank, limit)][::-1]

    async def news(self, sequence: int, wait_s: float) -> bool:
        """Wait for a message above this sequence. False: the time is over, or `release` was called."""
        return await self._news.wait(lambda: self._latest > sequence, wait_s)

    def release(self) -> None:
        """Let those who wait for news go on, also where there are none."""
        self._news.release()


def _row(report: StatusReport, came_at: float) -> tuple[Any, ...]:
    rank = Severity(report.severity).rank if report.severity in set(SEVERITIES) else Severity.INFO.rank
    fields = msgspec.json.encode(report.fields).decode()
    return (
        report.point,
        report.epoch,
        report.sequence,
        report.at,
        report.event,
        report.message_id,
        rank,
        fields,
        came_at,
    )


def _message(row: Sequence[Any]) -> StatusMessage:
    """Its point is a field of it; the site server's own messages have none."""
    id, point, at, event, message_id, rank, text = row
    fields = msgspec.json.decode(text, type=dict[str, Value])
    return StatusMessage(id, at, event, message_id, SEVERITIES[rank], {"point": point, **fields} if point else fields)
