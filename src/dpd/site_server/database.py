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

# A host that was cloned with its state has the series of the first one: its messages are others under the same numbers.
_WITH_POINTS = """
CREATE TABLE messages_of_points (
  id INTEGER PRIMARY KEY AUTOINCREMENT, point TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
  at REAL NOT NULL, event TEXT NOT NULL, message_id INTEGER NOT NULL, severity INTEGER NOT NULL, fields TEXT NOT NULL,
  came_at REAL NOT NULL, UNIQUE (epoch, sequence, point)
);
INSERT INTO sqlite_sequence SELECT 'messages_of_points', seq FROM sqlite_sequence WHERE name = 'messages';
INSERT INTO messages_of_points SELECT * FROM messages;
DROP TABLE messages;
ALTER TABLE messages_of_points RENAME TO messages;
CREATE INDEX messages_that_matter ON messages (id) WHERE severity > 0;
CREATE INDEX messages_by_age ON messages (came_at);
CREATE TABLE series (
  epoch TEXT NOT NULL, point TEXT NOT NULL, latest INTEGER NOT NULL, came_at REAL NOT NULL, PRIMARY KEY (epoch, point)
) WITHOUT ROWID;
INSERT INTO series SELECT epoch, point, max(sequence), max(came_at) FROM messages GROUP BY epoch, point;
CREATE TABLE gaps (
  epoch TEXT NOT NULL, point TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, found_at REAL NOT NULL,
  PRIMARY KEY (epoch, point, first)
) WITHOUT ROWID;
"""


class SiteServerError(DpdError):
    """The site server's file cannot be used: names it and why."""


class SiteServerFull(SiteServerError):
    """No room on the disk of the site server."""


def open_database(directory: Path) -> Database:
    """Raises SiteServerError."""
    return Database(directory / FILE, (_FIRST, _WITH_POINTS), error=SiteServerError, full=SiteServerFull)
