# SPDX-License-Identifier: Apache-2.0
"""Status messages that points have sent and that never came: told from the numbers on both sides of where they lack.

Each point numbers its messages without a gap and sends them in order, so what lacks behind a number that came has been lost on
the way: the stream of a leaf node is bounded and lets go of its oldest, a hub may lose its disk. What a spool itself had to drop
its point tells by a message of its own (5101), and is not told again. The first number of a series that is heard begins it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dpd.bus.messages import StatusReport
from dpd.control.bus.status import AT_ONCE

SETTLE_S = 3600.0
DROPPED = "messages.dropped"


@dataclass(frozen=True, slots=True)
class Missing:
    """`count` messages of a point between two numbers of its series, both included."""

    point: str
    first: int
    last: int
    count: int


def note_gaps(connection: sqlite3.Connection, reports: Sequence[StatusReport], now: float) -> None:
    """Within the transaction that stores the reports, in the order in which they came."""
    latest: dict[tuple[str, str], int] = {}
    for report in reports:
        series = report.epoch, report.point
        if series not in latest:
            row = connection.execute("SELECT latest FROM series WHERE epoch = ? AND point = ?", series).fetchone()
            latest[series] = int(row[0]) if row else report.sequence - 1
        if report.sequence > latest[series] + 1:
            gap = *series, latest[series] + 1, report.sequence - 1, now
            connection.execute("INSERT OR IGNORE INTO gaps VALUES (?, ?, ?, ?, ?)", gap)
        latest[series] = max(latest[series], report.sequence)
    rows = [(*series, sequence, now) for series, sequence in latest.items()]
    connection.executemany("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?)", rows)


def settle_gaps(connection: sqlite3.Connection, now: float) -> list[Missing]:
    """What will not come any more; each is told once. Of a batch that a point sends, the first may come last: after a failure
    it sends again from there. So a gap is settled when a number of a later batch has come, or after a while."""
    found = connection.execute(
        "SELECT gaps.epoch, gaps.point, first, last FROM gaps JOIN series USING (epoch, point) WHERE latest >= last + ? OR found_at < ?",
        (AT_ONCE, now - SETTLE_S),
    ).fetchall()
    missing = []
    for epoch, point, first, last in found:
        connection.execute("DELETE FROM gaps WHERE epoch = ? AND point = ? AND first = ?", (epoch, point, first))
        count = last - first + 1 - _accounted_for(connection, epoch, point, first, last)
        if count > 0:
            missing.append(Missing(point, first, last, count))
    return missing


def forget_series(connection: sqlite3.Connection, before: float) -> None:
    """Of whom nothing is kept any more."""
    connection.execute("DELETE FROM series WHERE came_at < ?", (before,))


def _accounted_for(connection: sqlite3.Connection, epoch: str, point: str, first: int, last: int) -> int:
    """How many came after all, or were told by their point as lost."""
    came = "SELECT count(*) FROM messages WHERE epoch = ? AND point = ? AND sequence BETWEEN ? AND ?"
    (count,) = connection.execute(came, (epoch, point, first, last)).fetchone()
    behind = first - 1  # all up to there has been looked at
    for begin, end in _told(connection, epoch, point, first, last):
        begin = max(begin, behind + 1)
        if begin <= end:
            (twice,) = connection.execute(came, (epoch, point, begin, end)).fetchone()
            count += end - begin + 1 - twice
            behind = end
    return int(count)


def _told(connection: sqlite3.Connection, epoch: str, point: str, first: int, last: int) -> list[tuple[int, int]]:
    """What the point's spool dropped there, by its own word."""
    query = "SELECT fields FROM messages WHERE epoch = ? AND point = ? AND event = ? AND sequence > ?"
    ranges = []
    for (fields,) in connection.execute(query, (epoch, point, DROPPED, first)):
        told = msgspec.json.decode(fields)
        begin, end = told.get("first"), told.get("last")
        if isinstance(begin, int) and isinstance(end, int):
            ranges.append((max(first, begin), min(last, end)))
    return sorted(ranges)
