# SPDX-License-Identifier: Apache-2.0
"""The site server's own file beside the site store: what points told it, and what it has yet to tell them."""

from __future__ import annotations

from pathlib import Path

from dpd.database import Database
from dpd.errors import DpdError

FILE = "site-server.db"

_FIRST = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('epoch', lower(hex(randomblob(8))));
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, point TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
  at REAL NOT NULL, event TEXT NOT NULL, message_id INTEGER NOT NULL, severity INTEGER NOT NULL, fields TEXT NOT NULL,
  came_at REAL NOT NULL, UNIQUE (epoch, sequence)
);
CREATE INDEX messages_that_matter ON messages (id) WHERE severity > 0;
CREATE INDEX messages_by_age ON messages (came_at);
CREATE TABLE heard (point TEXT PRIMARY KEY, at REAL NOT NULL, hello TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE assignments (
  target TEXT NOT NULL, package_id TEXT NOT NULL, source_version INTEGER, priority INTEGER NOT NULL, added_at REAL NOT NULL,
  actor TEXT NOT NULL, PRIMARY KEY (target, package_id)
) WITHOUT ROWID;
"""


class SiteServerError(DpdError):
    """The site server's file cannot be used: names it and why."""


class SiteServerFull(SiteServerError):
    """No room on the disk of the site server."""


def open_database(directory: Path) -> Database:
    """Raises SiteServerError."""
    return Database(directory / FILE, (_FIRST,), error=SiteServerError, full=SiteServerFull)
