# SPDX-License-Identifier: Apache-2.0
"""The spool's file: status messages by sequence, how far each reader has confirmed, and room made within a bound.

Every method blocks on the disk; one thread appends, any may read. Sequences follow each other without a gap.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dpd.database import Database
from dpd.errors import Unavailable
from dpd.telemetry.status_messages import (
    MAX_VALUE_CHARACTERS,
    SEVERITIES,
    Severity,
    StatusMessage,
    Value,
    definition_of,
)

_KEPT = 0.9  # of the bound, after making room: so that room is made seldom, and told seldom
_ROW_BYTES = 64  # what a message costs beside its event and fields, about
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SCHEMA = """
CREATE TABLE series (epoch TEXT NOT NULL, kept_bytes INTEGER NOT NULL);
INSERT INTO series VALUES (lower(hex(randomblob(8))), 0);
CREATE TABLE messages (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, event TEXT NOT NULL, message_id INTEGER NOT NULL,
  severity INTEGER NOT NULL, fields TEXT NOT NULL
);
CREATE INDEX messages_that_matter ON messages (sequence) WHERE severity > 0;
CREATE TABLE readers (name TEXT PRIMARY KEY, confirmed INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "sequence, at, event, message_id, severity, fields"

Put: TypeAlias = tuple[float, str, Mapping[str, Value]]  # at, event, fields
_Row: TypeAlias = tuple[float, str, int, int, str]


class SpoolError(Unavailable):
    """The spool's file cannot be used now."""


class SpoolFull(SpoolError):
    """No room on the disk of the spool."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much is kept, confirmed or not."""

    max_messages: int = 100_000
    max_bytes: int = 64 << 20


class SpoolFile:
    """One file. `readers`, where given, are all that there are: others are forgotten. Raises SpoolError, SpoolFull."""

    def __init__(self, path: Path, limits: SpoolLimits, readers: Collection[str] | None = None) -> None:
        self._limits = limits
        self._database = Database(path, [_SCHEMA], error=SpoolError, full=SpoolFull)
        self.dropped = 0
        try:
            ((self.epoch, self.kept_bytes),) = self._database.rows("SELECT epoch, kept_bytes FROM series")
            (newest,) = self._database.rows("SELECT max(seq) FROM sqlite_sequence WHERE name = 'messages'")
            (oldest,) = self._database.rows("SELECT min(sequence) FROM messages")
            self.latest: int = newest[0] or 0
            self.oldest: int = oldest[0] or self.latest + 1
            if readers is not None:
                self._set_readers(readers)
            self.confirmed: dict[str, int] = dict(self._database.rows("SELECT name, confirmed FROM readers"))
        except BaseException:
            self._database.close()
            raise

    @property
    def kept(self) -> int:
        """How many messages there are."""
        return self.latest - self.oldest + 1

    def _set_readers(self, readers: Collection[str]) -> None:
        known = {name for (name,) in self._database.rows("SELECT name FROM readers")}
        if known == set(readers):
            return
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM readers WHERE name = ?", [(name,) for name in known - set(readers)])
            connection.executemany("INSERT INTO readers VALUES (?, 0)", [(name,) for name in set(readers) - known])

    def append(self, puts: Sequence[Put]) -> None:
        """All of them or none; the oldest messages go where the bound is passed."""
        rows = [_row(*put) for put in puts]
        with self._database.transaction() as connection:
            latest = self._insert(connection, rows)
            kept_bytes = self.kept_bytes + sum(map(_size, rows))
            oldest, dropped = self.oldest, 0
            if latest - oldest >= self._limits.max_messages or kept_bytes > self._limits.max_bytes:
                cut, freed_bytes = self._cut(connection, latest, kept_bytes)
                connection.execute("DELETE FROM messages WHERE sequence <= ?", (cut,))
                told, dropped = self._tell_dropped(connection, cut, puts[-1][0])
                latest = self._insert(connection, told) if told else latest
                kept_bytes += sum(map(_size, told)) - freed_bytes
                oldest = cut + 1
            connection.execute("UPDATE series SET kept_bytes = ?", (kept_bytes,))
        self.latest, self.oldest, self.kept_bytes = latest, oldest, kept_bytes
        self.dropped += dropped

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[_Row]) -> int:
        """The sequence of the last of them."""
        query = "INSERT INTO messages (at, event, message_id, severity, fields) VALUES (?, ?, ?, ?, ?)"
        latest = self.latest
        for row in rows:
            latest = connection.execute(query, row).lastrowid or latest
        return latest

    def _cut(self, connection: sqlite3.Connection, latest: int, kept_bytes: int) -> tuple[int, int]:
        """Up to where messages go, so that the rest is well within the bound; and how many bytes that frees."""
        freed_bytes, cut = 0, self.oldest - 1
        for row in connection.execute(f"SELECT {_COLUMNS} FROM messages ORDER BY sequence"):
            is_within = latest - cut <= self._limits.max_messages * _KEPT
            if is_within and kept_bytes - freed_bytes <= self._limits.max_bytes * _KEPT:
                break
            cut = row[0]
            freed_bytes += _size(row[1:])
        return cut, freed_bytes

    def _tell_dropped(self, connection: sqlite3.Connection, cut: int, at: float) -> tuple[list[_Row], int]:
        """The message of its own for what a reader has not had, and how many that is."""
        behind = dict(connection.execute("SELECT name, confirmed FROM readers WHERE confirmed < ?", (cut,)))
        if not behind:
            return [], 0
        first = max(self.oldest, min(behind.values()) + 1)
        fields: dict[str, Value] = {"count": cut - first + 1, "first": first, "last": cut}
        return [_row(at, "messages.dropped", fields | {"readers": " ".join(sorted(behind))})], cut - first + 1

    def after(self, sequence: int, limit: int, severity: Severity) -> list[StatusMessage]:
        """The messages with higher sequences, at least as severe, oldest first."""
        query = f"SELECT {_COLUMNS} FROM messages WHERE sequence > ? {_at_least(severity)} ORDER BY sequence LIMIT ?"
        return [_message(row) for row in self._database.rows(query, sequence, limit)]

    def last(self, limit: int, severity: Severity) -> list[StatusMessage]:
        """The newest messages, at least as severe, the oldest of them first."""
        query = f"SELECT {_COLUMNS} FROM messages WHERE true {_at_least(severity)} ORDER BY sequence DESC LIMIT ?"
        return [_message(row) for row in self._database.rows(query, limit)][::-1]

    def confirm(self, reader: str, sequence: int) -> None:
        """This reader has all up to there; never back, and never beyond what there is."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO readers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET confirmed = max(confirmed, excluded.confirmed)",
                (reader, max(0, min(sequence, self.latest))),
            )
            confirmed = dict(connection.execute("SELECT name, confirmed FROM readers"))
        self.confirmed = confirmed

    def close(self) -> None:
        """Idempotent."""
        self._database.close()


def is_damage(error: BaseException) -> bool:
    """Whether the file is no database any more, and will never be one again."""
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def set_aside(path: Path) -> Path:
    """Move a damaged file away, for whoever wants to look; an earlier one is replaced."""
    aside = path.with_name(path.name + ".damaged")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.replace(path, aside)
    return aside


def _at_least(severity: Severity) -> str:
    """The first condition is the index's own, which SQLite must find word for word."""
    return f"AND severity > 0 AND severity >= {severity.rank}" if severity.rank else ""


def _row(at: float, event: str, fields: Mapping[str, Value]) -> _Row:
    plain = {name: _plain(value) for name, value in fields.items()}
    definition = definition_of(event)
    return at, event, definition.message_id, definition.severity.rank, json.dumps(plain, separators=(",", ":"))


def _plain(value: Any) -> Value:
    """A value as JSON and every reader know it: no NaN, no number above 64 bits, no half of a surrogate pair."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        text = str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # a broken __str__ must not hold up the messages behind it
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "..."


def _size(row: Sequence[Any]) -> int:
    return _ROW_BYTES + len(row[1]) + len(row[4])


def _message(row: Sequence[Any]) -> StatusMessage:
    sequence, at, event, message_id, rank, fields = row
    return StatusMessage(sequence, at, event, message_id, SEVERITIES[rank], json.loads(fields))
