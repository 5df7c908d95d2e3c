# SPDX-License-Identifier: Apache-2.0
"""The site store's file: SQLite with its tables, one owner, and changes that are whole and signed in the audit."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from dpd.site.records import AuditEntry, Authority, SiteConflict, SiteError
from dpd.site.schema import prepare

BUSY_TIMEOUT_S = 5.0
AUDIT_ENTRIES = 100_000

_T = TypeVar("_T")


class SiteDatabase:
    """One file, or memory alone where there is no path. `policy_version` goes up with each change, after the copy in memory has
    followed: so a judgement that was marked with a version was made by all of that version. `lock` is held while policy changes,
    the copies in memory included; what writes beside policy, such as runs, waits for statements and transactions alone."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self._using = threading.RLock()  # the connection
        self._path = path
        try:
            self._connection = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise SiteError(
                f"{path}: cannot be used as the site store: {error}; move it away to begin anew, or put its last copy back"
            ) from None
        weakref.finalize(self, self._connection.close)
        self._watchers: list[Callable[[], None]] = []
        self._audit_watchers: list[Callable[[AuditEntry], None]] = []
        self.load_facts()
        self.policy_version = int(self.facts["policy_version"])

    def close(self) -> None:
        """Idempotent."""
        with self.lock, self._using:
            self._connection.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        """What a query finds."""
        with self._using:
            return self._connection.execute(query, values).fetchall()

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """A transaction: all of it or nothing. Raises SiteError where the disk refuses."""
        with self._using:
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
        self,
        actor: str,
        action: str,
        detail: str,
        work: Callable[[sqlite3.Connection], _T],
        follow: Callable[[], None],
        *,
        own: bool = True,
    ) -> _T:
        """A change of policy: `work` and its line in the audit in one transaction, then `follow` renews the copy in memory. What
        is `own` to policy is refused by SiteConflict where policy comes from a site."""

        entries: list[AuditEntry] = []

        def signed(connection: sqlite3.Connection) -> _T:
            result = work(connection)
            entry = self.clock(), actor, action, detail, version
            id = connection.execute("INSERT INTO audit VALUES (NULL, ?, ?, ?, ?, ?)", entry).lastrowid or 0
            entries[:] = [AuditEntry(id, *entry)]
            connection.execute("UPDATE facts SET value = ? WHERE name = 'policy_version'", (str(version),))
            return result

        with self.lock:
            if own:
                self.check_own()
            version = self.policy_version + 1
            result = self.write(signed)
            follow()
            self.policy_version = version
        for heard in self._watchers:
            heard()
        for told in self._audit_watchers:
            told(entries[0])
        return result

    def watch(self, heard: Callable[[], None]) -> None:
        """`heard` is called behind each change, in whatever thread made it; it neither raises nor takes long."""
        self._watchers.append(heard)

    def watch_audit(self, told: Callable[[AuditEntry], None]) -> None:
        """As `watch`, with the change's line in the audit."""
        self._audit_watchers.append(told)

    # ---- facts

    def load_facts(self) -> None:
        """Read them anew, after a change that wrote some."""
        self.facts = dict(self.rows("SELECT name, value FROM facts"))
        said = self.facts["authority"]
        self.authority = Authority(**json.loads(said)) if said else None

    @contextmanager
    def own(self) -> Iterator[None]:
        """The lock, for who may change policy. Raises SiteConflict where this policy is another's."""
        with self.lock:
            self.check_own()
            yield

    def check_own(self) -> None:
        """Raises SiteConflict where this policy is another's."""
        if self.authority is not None:
            raise SiteConflict(
                f"policy of this point comes from site {self.authority.site}; change it there, or make it this point's own: `dpd policy release`"
            )

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


def write_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Within a change."""
    connection.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))


def write_authority(connection: sqlite3.Connection, authority: Authority | None) -> None:
    """Within a change; None makes policy this store's own."""
    write_fact(connection, "authority", "" if authority is None else json.dumps(asdict(authority)))


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        # It holds the key of the codes on screens; sqlite itself would leave its mode to the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
