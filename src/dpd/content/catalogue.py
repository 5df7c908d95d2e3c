# SPDX-License-Identifier: Apache-2.0
"""What the library holds, in SQLite: one row for each published package version. A row is what makes content exist.

One connection behind one lock: a statement here takes microseconds and a commit one fsync, callers are worker threads
that come and go, and a single connection can be closed for certain. Write-ahead logging lets an operator look with the
sqlite3 shell meanwhile; synchronous=FULL because a publish that was reported must survive a power cut.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd.content.wim_xml import ImageSummary
from dpd.errors import ContentError, LibraryFull

EPOCHS = 1 << 16  # 16 bits in a datagram
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE content (
    package_id TEXT NOT NULL,
    source_version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    slab_count INTEGER NOT NULL,
    images TEXT NOT NULL,
    added_at REAL NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (package_id, source_version)
) WITHOUT ROWID;
CREATE INDEX content_by_blob ON content (sha256);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "package_id, source_version, kind, name, size_bytes, sha256, slab_count, images, added_at"


@dataclass(frozen=True, slots=True)
class Content:
    """One published version of a package. `name` is the source file's, `added_at` is seconds since 1970."""

    package_id: str
    source_version: int
    kind: str
    name: str
    size_bytes: int
    sha256: str
    slab_count: int
    images: tuple[ImageSummary, ...]
    added_at: float

    def __str__(self) -> str:
        return f"{self.package_id} version {self.source_version}"


class Catalogue:
    """The rows. Every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path, *, may_make: bool = True) -> None:
        """`may_make`: an empty or missing file may become a new catalogue; else ContentError."""
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with self._translated():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(self._connection, may_make)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def contents(self) -> list[Content]:
        """All of it, by package, oldest version first."""
        rows = self._query(f"SELECT {_COLUMNS} FROM content ORDER BY package_id, source_version")
        return [_content(row) for row in rows]

    def find(self, package_id: str, source_version: int | None) -> Content | None:
        """This version, or the newest for None."""
        rows = self._query(
            f"SELECT {_COLUMNS} FROM content WHERE package_id = ? AND source_version = ifnull(?, source_version)"
            " ORDER BY source_version DESC LIMIT 1",
            package_id,
            source_version,
        )
        return _content(rows[0]) if rows else None

    def manifest_of(self, content: Content) -> str | None:
        """Which manifest belongs to this very content; None if it has been removed meanwhile."""
        rows = self._query(
            "SELECT manifest FROM content WHERE package_id = ? AND source_version = ? AND sha256 = ?",
            content.package_id,
            content.source_version,
            content.sha256,
        )
        return str(rows[0][0]) if rows else None

    def put(self, content: Content, manifest: str) -> None:
        """The publish point: from here on the content exists, with this manifest."""
        images = json.dumps([image.to_row() for image in content.images])
        with self._transaction() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO content ({_COLUMNS}, manifest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*_plain(content), images, content.added_at, manifest),
            )

    def remove(self, content: Content) -> None:
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM content WHERE package_id = ? AND source_version = ?",
                (content.package_id, content.source_version),
            )

    def used_files(self) -> tuple[set[str], set[str]]:
        """The blobs and the manifests that some content needs."""
        rows = self._query("SELECT sha256, manifest FROM content")
        return {row[0] for row in rows}, {row[1] for row in rows}

    def next_epoch(self) -> int:
        """Counts on at each call, from 1, and wraps to 0."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO counter VALUES ('epoch', 0)")
            connection.execute("UPDATE counter SET value = (value + 1) % ? WHERE name = 'epoch'", (EPOCHS,))
            return int(connection.execute("SELECT value FROM counter WHERE name = 'epoch'").fetchone()[0])

    def _prepare(self, connection: sqlite3.Connection, may_make: bool) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise ContentError(
                f"{self._path}: written by a newer dpd (schema {version}, expected at most {_SCHEMA_VERSION}); install that version"
            )
        if version == 0 and not may_make:
            raise ContentError(
                f"{self._path}: missing or empty, but there are blobs beside it; restore it from a backup, or move blobs/ away and publish again"
            )
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")

    def _query(self, statement: str, *values: Any) -> list[Any]:
        with self._lock, self._translated():
            return self._open().execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ContentError(f"{self._path}: the library has been closed")
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise LibraryFull(f"{self._path}: the disk is full; make room there and try again") from None
            raise ContentError(f"{self._path}: {error}; check the disk, or restore the file from a backup") from error


def _plain(content: Content) -> tuple[str | int, ...]:
    return (
        content.package_id,
        content.source_version,
        content.kind,
        content.name,
        content.size_bytes,
        content.sha256,
        content.slab_count,
    )


def _content(row: Any) -> Content:
    *plain, images, added_at = row
    fields: list[Any] = [*plain, tuple(map(ImageSummary.from_row, json.loads(images))), added_at]
    return Content(*fields)
