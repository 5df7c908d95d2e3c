# SPDX-License-Identifier: Apache-2.0
"""The library in numbers, known at any moment without counting and without waiting for a change that runs.

The table `total` changes in the very transaction that changes the rows, so it is exact whatever a crash interrupts: for
contents by triggers, for blobs and files by one statement for all of a change, since a trigger costs as much as the row.
After each change it is read once and kept as a value, for status and metrics ask often and on the loop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator
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

    def count_blobs(self, connection: sqlite3.Connection, sizes: Collection[int], sign: int = 1) -> None:
        """So many have come; with -1, have gone, of which no file was made."""
        connection.execute(
            "UPDATE total SET blobs = blobs + ?, blob_bytes = blob_bytes + ?", (sign * len(sizes), sign * sum(sizes))
        )

    def count_files(self, connection: sqlite3.Connection, content: int, sign: int = 1) -> None:
        """The files of this row of content are all there; with -1, are about to go."""
        connection.execute(
            "UPDATE total SET used_bytes = used_bytes + ?2 * (SELECT ifnull(sum(size_bytes), 0) FROM blob"
            " WHERE id IN (SELECT blob FROM file WHERE content = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM file WHERE file.blob = blob.id AND file.content != ?1))",
            (content, sign),
        )

    def _read(self) -> Totals:
        ((contents, content_bytes, blobs, blob_bytes, used_bytes),) = self._database.rows(
            "SELECT contents, content_bytes, blobs, blob_bytes, used_bytes FROM total"
        )
        return Totals(contents, content_bytes, blobs, blob_bytes, content_bytes - used_bytes)
