# SPDX-License-Identifier: Apache-2.0
"""The library in numbers, known at any moment without counting and without waiting for a change that runs.

Triggers count in the table `total` as rows come and go (schema.py), in the very transaction, so it is exact whatever a
crash interrupts. After each change it is read once and kept as a value, for status and metrics ask often and on the loop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dpd.content.records import Totals
from dpd.database import Database
from dpd.errors import ContentError


class Tally:
    """Every change of contents, files and blobs goes through `change`. From any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # so that a value is never replaced by an older one
        self._totals = self._read()

    @property
    def totals(self) -> Totals:
        """As of the last change that has ended."""
        return self._totals

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """As `Database.transaction`."""
        with self._lock:
            try:
                with self._database.transaction() as connection:
                    yield connection
            except BaseException:
                with suppress(ContentError):  # it may have failed behind its commit
                    self._totals = self._read()
                raise
            self._totals = self._read()

    def _read(self) -> Totals:
        ((contents, content_bytes, blobs, blob_bytes, used_bytes),) = self._database.rows(
            "SELECT contents, content_bytes, blobs, blob_bytes, used_bytes FROM total"
        )
        return Totals(contents, content_bytes, blobs, blob_bytes, content_bytes - used_bytes)
