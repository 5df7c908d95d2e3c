# SPDX-License-Identifier: Apache-2.0
"""deployment.db: executions with their steps and reports, and captures. One file with one owner."""

from __future__ import annotations

from pathlib import Path

from dpd.database import Database
from dpd.errors import DeploymentDiskFull, DeploymentError

_TABLES = """
CREATE TABLE execution (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, machine TEXT NOT NULL, computer TEXT NOT NULL,
  mac TEXT NOT NULL, deployment INTEGER NOT NULL, sequence TEXT NOT NULL, version INTEGER NOT NULL,
  started_at REAL NOT NULL, ends_by REAL NOT NULL, state TEXT NOT NULL, heard_at REAL NOT NULL, ended_at REAL NOT NULL,
  reported INTEGER NOT NULL, step TEXT NOT NULL, message TEXT NOT NULL, error TEXT NOT NULL,
  cancel_reason TEXT NOT NULL, cancel_actor TEXT NOT NULL, log_bytes INTEGER NOT NULL, is_silent INTEGER NOT NULL
);
CREATE INDEX execution_open ON execution (number) WHERE state IN ('running', 'restarting');
CREATE INDEX execution_of_machine ON execution (machine, number);
CREATE INDEX execution_of_mac ON execution (mac, number);
CREATE INDEX execution_of_deployment ON execution (deployment, number);
CREATE TABLE step (
  execution TEXT NOT NULL REFERENCES execution (id) ON DELETE CASCADE, place INTEGER NOT NULL, id TEXT NOT NULL,
  name TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL NOT NULL,
  attempts INTEGER NOT NULL, message TEXT NOT NULL, done_bytes INTEGER NOT NULL, total_bytes INTEGER NOT NULL,
  rate_bit_s REAL NOT NULL, PRIMARY KEY (execution, place)
) WITHOUT ROWID;
CREATE TABLE report (
  execution TEXT NOT NULL REFERENCES execution (id) ON DELETE CASCADE, number INTEGER NOT NULL, at REAL NOT NULL,
  heard_at REAL NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
  PRIMARY KEY (execution, number)
) WITHOUT ROWID;
CREATE TABLE capture (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, execution TEXT NOT NULL, machine TEXT NOT NULL,
  package_id TEXT NOT NULL, size_bytes INTEGER NOT NULL, state TEXT NOT NULL, kept_bytes INTEGER NOT NULL,
  source_version INTEGER NOT NULL, error TEXT NOT NULL, started_at REAL NOT NULL, changed_at REAL NOT NULL
);
CREATE UNIQUE INDEX capture_once ON capture (execution, package_id, size_bytes) WHERE state = 'open';
"""


def open_database(path: Path) -> Database:
    """The file, made where it is missing. Raises DeploymentError, DeploymentDiskFull where the disk is."""
    return Database(path, [_TABLES], error=DeploymentError, full=DeploymentDiskFull)
