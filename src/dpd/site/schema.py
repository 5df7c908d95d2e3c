# SPDX-License-Identifier: Apache-2.0
"""The tables of the site store, and how a file of an earlier dpd is taken over in place."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from dpd.site.records import SiteError

_FIRST = """
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

# Names of collections, deployments and points are told apart in no case, as those of computers are. What a row speaks of by
# name must be there when the transaction ends, not before: a whole model is written in any order.
_COLLECTIONS = """
ALTER TABLE deployments ADD COLUMN name TEXT NOT NULL DEFAULT '' COLLATE NOCASE;
ALTER TABLE deployments ADD COLUMN audience TEXT NOT NULL DEFAULT 'all';
ALTER TABLE deployments ADD COLUMN rerun TEXT NOT NULL DEFAULT 'never';
CREATE UNIQUE INDEX deployments_by_name ON deployments (name) WHERE name <> '';
CREATE TABLE collections (
  name TEXT PRIMARY KEY COLLATE NOCASE, description TEXT NOT NULL, added_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE collection_computers (
  collection TEXT NOT NULL COLLATE NOCASE REFERENCES collections (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  computer TEXT NOT NULL COLLATE NOCASE REFERENCES computers (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  place INTEGER NOT NULL, PRIMARY KEY (collection, computer)
) WITHOUT ROWID;
CREATE INDEX collection_computers_by_computer ON collection_computers (computer);
CREATE TABLE collection_rules (
  collection TEXT NOT NULL COLLATE NOCASE REFERENCES collections (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  kind TEXT NOT NULL, value TEXT NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (collection, kind, value)
) WITHOUT ROWID;
CREATE TABLE collection_links (
  collection TEXT NOT NULL COLLATE NOCASE REFERENCES collections (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  kind TEXT NOT NULL, other TEXT NOT NULL COLLATE NOCASE REFERENCES collections (name) DEFERRABLE INITIALLY DEFERRED,
  place INTEGER NOT NULL, PRIMARY KEY (collection, kind, other)
) WITHOUT ROWID;
CREATE INDEX collection_links_by_other ON collection_links (other);
CREATE TABLE points (name TEXT PRIMARY KEY COLLATE NOCASE, url TEXT NOT NULL, description TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE point_groups (
  point TEXT NOT NULL COLLATE NOCASE REFERENCES points (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name TEXT NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (point, name)
) WITHOUT ROWID;
CREATE TABLE boundaries (network TEXT PRIMARY KEY, description TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE boundary_points (
  network TEXT NOT NULL REFERENCES boundaries (network) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  point TEXT NOT NULL COLLATE NOCASE REFERENCES points (name) DEFERRABLE INITIALLY DEFERRED,
  place INTEGER NOT NULL, PRIMARY KEY (network, point)
) WITHOUT ROWID;
CREATE INDEX boundary_points_by_point ON boundary_points (point);
INSERT INTO facts VALUES ('affinity_mode', 'none'), ('authority', ''), ('site_maintenance', '');
"""

_SEQUENCES = """
ALTER TABLE deployments ADD COLUMN sequence TEXT NOT NULL DEFAULT '';
CREATE TABLE variables (
  target TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE, value TEXT NOT NULL, secret INTEGER NOT NULL,
  PRIMARY KEY (target, name)
) WITHOUT ROWID;
"""

_SEQUENCE_TEXTS = """
CREATE TABLE sequences (
  name TEXT NOT NULL COLLATE NOCASE, version INTEGER NOT NULL, description TEXT NOT NULL, steps INTEGER NOT NULL,
  published_at REAL NOT NULL, actor TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (name, version)
);
CREATE TABLE sequence_numbers (name TEXT PRIMARY KEY COLLATE NOCASE, last_version INTEGER NOT NULL) WITHOUT ROWID;
"""

MIGRATIONS = _FIRST, _COLLECTIONS, _SEQUENCES, _SEQUENCE_TEXTS  # MIGRATIONS[n] leads from schema n to n + 1
SCHEMA_VERSION = len(MIGRATIONS)


def prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    """Make the tables, or those that an earlier dpd did not have: each step whole, whenever the process ends. Raises SiteError
    for a file of a newer dpd."""
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit is with the kernel when it returns: kill -9 loses nothing, a power cut may lose the last seconds.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SiteError(
            f"{path}: written by a newer dpd (schema {version}, expected at most {SCHEMA_VERSION}); install that one"
        )
    for number in range(version, SCHEMA_VERSION):
        facts = f"('code_key', '{secrets.token_hex(32)}'), ('policy_version', '0'), ('maintenance', '')"
        first = f"INSERT INTO facts VALUES {facts};" if number == 0 else ""
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]} {first} PRAGMA user_version = {number + 1}; COMMIT;"
        )
