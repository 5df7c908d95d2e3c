# SPDX-License-Identifier: Apache-2.0
"""distribution.db: jobs, what is wanted here, facts, and the keys of sources. One file with one owner."""

from __future__ import annotations

from pathlib import Path

from dpd.database import Database
from dpd.errors import JobError, LibraryFull

# The index job_once makes it impossible that one order is open twice, whatever happens between looking and writing; a job
# that is being stopped does not count, since whoever orders after that wants it done.
_TABLES = """
CREATE TABLE job (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, package_id TEXT NOT NULL, source_version INTEGER,
  options TEXT NOT NULL, priority INTEGER NOT NULL, state TEXT NOT NULL, created_at REAL NOT NULL,
  started_at REAL NOT NULL, ended_at REAL NOT NULL, attempts INTEGER NOT NULL, next_try_at REAL NOT NULL,
  done_bytes INTEGER NOT NULL, total_bytes INTEGER NOT NULL, message TEXT NOT NULL, error TEXT NOT NULL,
  stopping TEXT NOT NULL, actor TEXT NOT NULL
);
CREATE UNIQUE INDEX job_once ON job (kind, package_id, ifnull(source_version, 0), options)
  WHERE state IN ('queued', 'running', 'waiting') AND stopping = '';
CREATE INDEX job_open ON job (id) WHERE state IN ('queued', 'running', 'waiting');
CREATE INDEX job_of_package ON job (package_id, id);
CREATE TABLE wanted (
  package_id TEXT NOT NULL, source_version INTEGER NOT NULL, since REAL NOT NULL,
  PRIMARY KEY (package_id, source_version)
) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE source_key (source TEXT PRIMARY KEY, public_key TEXT NOT NULL, pinned_at REAL NOT NULL) WITHOUT ROWID;
"""
_VIA = "ALTER TABLE job ADD COLUMN via TEXT NOT NULL DEFAULT '';"


def open_database(path: Path) -> Database:
    """The file, made where it is missing. Raises JobError, LibraryFull where the disk is."""
    return Database(path, [_TABLES, _VIA], error=JobError, full=LibraryFull)
