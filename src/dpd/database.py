# SPDX-License-Identifier: Apache-2.0
"""An SQLite file with one owner: opened, brought to its newest schema, read, and changed in whole transactions.

One connection behind one lock: a statement takes microseconds and a commit one fsync, callers are worker threads that
come and go, and a single connection can be closed for certain. Write-ahead logging lets an operator look with the
sqlite3 shell meanwhile; synchronous=FULL because what was reported must survive a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpd.errors import DpdError


class Database:
    """The file. `migrations[n]` is the SQL that leads from schema n to n + 1, the first one from an empty file.

    Every method may be called from any thread. Raises `error`, or `full` where the disk has no room, with the file's name.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        error: type[DpdError],
        full: type[DpdError],
        empty_is_an_error: str = "",
    ) -> None:
        """`empty_is_an_error`: the words for a file that is missing or empty though it must not be."""
        self.path = path
        self._error, self._full = error, full
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        with self._translated():
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection, migrations, empty_is_an_error)
            except BaseException:
                connection.close()
                raise
            self._connection = connection

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds."""
        with self._lock, self._translated():
            return self._open().execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what the block does, or nothing. Not to be nested."""
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

    def _prepare(self, connection: sqlite3.Connection, migrations: Sequence[str], empty_is_an_error: str) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise self._error(
                f"{self.path}: written by a newer dpd (schema {version}, expected at most {len(migrations)}); install that version"
            )
        if version == 0 and empty_is_an_error:
            raise self._error(f"{self.path}: {empty_is_an_error}")
        for number in range(version, len(migrations)):
            connection.executescript(
                f"BEGIN IMMEDIATE; {migrations[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            )

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise self._error(f"{self.path}: has been closed")
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise self._full(f"{self.path}: the disk is full; make room there and try again") from None
            raise self._error(f"{self.path}: {error}; check the disk, or restore the file from a backup") from error
