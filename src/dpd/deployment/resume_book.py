# SPDX-License-Identifier: Apache-2.0
"""What lets a machine go on with its task sequence after a restart, its own or dpd's: one secret for each execution.

The secret itself is with the machine; here is its hash, with what the new session needs to know.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import astuple, dataclass
from pathlib import Path

from dpd.database import Database
from dpd.errors import DeploymentDiskFull, DeploymentError

SECRET_BYTES = 32
KEPT_S = 86400.0  # behind its end, so that a late one hears that it is too late

_TABLE = """
CREATE TABLE resume (
  execution TEXT PRIMARY KEY, machine TEXT NOT NULL, computer TEXT NOT NULL, mac TEXT NOT NULL, deployment INTEGER NOT NULL,
  ends_by REAL NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine goes on. Times are seconds since the epoch."""

    execution: str
    machine: str
    computer: str
    mac: str
    deployment: int
    ends_by: float


class ResumeBook:
    """One file with one owner. Any thread; blocks for the disk."""

    def __init__(self, path: Path) -> None:
        """Raises DeploymentError."""
        self._database = Database(path, [_TABLE], error=DeploymentError, full=DeploymentDiskFull)

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    def keep(self, place: Place, now: float) -> str:
        """The secret for this place; those whose time is long over go. Raises DeploymentError."""
        secret = secrets.token_hex(SECRET_BYTES)
        row = (*astuple(place), _hash(secret))
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM resume WHERE ends_by < ?", (now - KEPT_S,))
            connection.execute("INSERT OR REPLACE INTO resume VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return secret

    def find(self, execution: str, secret: str) -> Place | None:
        """None where there is no such place, or the secret is another's."""
        rows = self._database.rows("SELECT * FROM resume WHERE execution = ?", execution)
        if not rows:
            return None
        *values, kept = rows[0]
        return Place(*values) if hmac.compare_digest(kept, _hash(secret)) else None


def _hash(secret: str) -> str:
    """Enough for what is drawn: nobody tries 2^256 of them."""
    return hashlib.sha256(secret.encode("ascii", "replace")).hexdigest()
