# SPDX-License-Identifier: Apache-2.0
"""The site store's file: SQLite with its tables, one owner, and changes that are whole and signed in the audit."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dpd.site.records import AuditEntry, SiteError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0
AUDIT_ENTRIES = 100_000

_T = TypeVar("_T")

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE computers (
  name TEXT PRIMARY KEY COLLATE NOCASE, guid TEXT NOT NULL, boot_image TEXT NOT NULL, added_at REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX computers_by_guid ON computers (guid) WHERE guid <> '';
CREATE TABLE computer_macs (
  mac TEXT PRIMARY KEY, place INTEGER NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE REFERENCES computers (name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX computer_macs_by_name ON computer_macs (name);
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL COLLATE NOCASE, boot_image TEXT NOT NULL, purpose TEXT NOT NULL,
  priority INTEGER NOT NULL, available_from REAL NOT NULL, expires_at REAL NOT NULL, added_at REAL NOT NULL
);
CREATE TABLE runs (
  deployment INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, machine TEXT NOT NULL, mac TEXT NOT NULL,
  started_at REAL NOT NULL, finished_at REAL NOT NULL, PRIMARY KEY (deployment, machine)
) WITHOUT ROWID;
CREATE TABLE required_boots (id INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE verdicts (
  mac TEXT PRIMARY KEY, verdict TEXT NOT NULL, expires_at REAL NOT NULL, decided_at REAL NOT NULL, actor TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE approval_rules (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, value TEXT NOT NULL, added_at REAL NOT NULL, UNIQUE (kind, value)
);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
  policy_version INTEGER NOT NULL
);
"""


class SiteDatabase:
    """One file, or memory alone where there is no path. `policy_version` goes up with each change, after the copy in memory has
    followed: so a judgement that was marked with a version was made by all of that version."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self._path = path
        try:
            self._connection = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise SiteError(
                f"{path}: cannot be used as the site store: {error}; move it away to begin anew, or put its last copy back"
            ) from None
        weakref.finalize(self, self._connection.close)
        self.facts = dict(self._connection.execute("SELECT name, value FROM facts"))
        self.policy_version = int(self.facts["policy_version"])

    def close(self) -> None:
        """Idempotent."""
        with self.lock:
            self._connection.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        """What a query finds."""
        with self.lock:
            return self._connection.execute(query, values).fetchall()

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """A transaction: all of it or nothing. Raises SiteError where the disk refuses."""
        with self.lock:
            try:
                return self._transact(work)
            except sqlite3.Error as error:
                raise SiteError(
                    f"{self._path}: not written: {error}; look at the disk's room and rights, then ask again"
                ) from None

    def _transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    def change(
        self, actor: str, action: str, detail: str, work: Callable[[sqlite3.Connection], _T], follow: Callable[[], None]
    ) -> _T:
        """A change of policy: `work` and its line in the audit in one transaction, then `follow` renews the copy in memory."""

        def signed(connection: sqlite3.Connection) -> _T:
            result = work(connection)
            entry = self.clock(), actor, action, detail, version
            connection.execute("INSERT INTO audit VALUES (NULL, ?, ?, ?, ?, ?)", entry)
            connection.execute("UPDATE facts SET value = ? WHERE name = 'policy_version'", (str(version),))
            return result

        with self.lock:
            version = self.policy_version + 1
            result = self.write(signed)
            follow()
            self.policy_version = version
            return result

    def audit(self, limit: int) -> list[AuditEntry]:
        """The last changes, oldest first."""
        return [AuditEntry(*row) for row in self.rows("SELECT * FROM audit ORDER BY id DESC LIMIT ?", limit)][::-1]

    def trim_audit(self) -> None:
        """Keep the last AUDIT_ENTRIES."""
        self.write(
            lambda connection: connection.execute(
                "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (AUDIT_ENTRIES,)
            )
        )


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        # It holds the key of the codes on screens; sqlite itself would leave its mode to the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit is with the kernel when it returns: kill -9 loses nothing, a power cut may lose the last seconds.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SiteError(
            f"{path}: written by a newer dpd (schema {version}, expected at most {SCHEMA_VERSION}); install that one"
        )
    if version == 0:
        facts = f"('code_key', '{secrets.token_hex(32)}'), ('policy_version', '0'), ('maintenance', '')"
        connection.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} INSERT INTO facts VALUES {facts}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
