# SPDX-License-Identifier: Apache-2.0
"""sequences.db: every published version of every task sequence, as it was written and as it was signed.

A version is never changed and its number never given twice, so that a machine that goes on after a restart, or a deployment of
"NAME@3", finds what it began with.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from dpd.database import Database
from dpd.sequence.checks import check_sequence
from dpd.sequence.document import SequenceRefused, read_document
from dpd.sequence.package_checks import Look
from dpd.sequence.records import SequenceConflict, SequenceError, SequenceNotFound, TaskSequence
from dpd.sequence.reference import MAX_VERSION, write_reference
from dpd.sequence.signed import Sign, read_signed, write_signed

KEPT_IN_MEMORY: Final = 64  # read and checked; a target asks every few seconds

_TABLES: Final = """
CREATE TABLE sequence (name TEXT PRIMARY KEY COLLATE NOCASE, last_version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE version (
  name TEXT NOT NULL COLLATE NOCASE, version INTEGER NOT NULL, description TEXT NOT NULL, text TEXT NOT NULL,
  document TEXT NOT NULL, steps INTEGER NOT NULL, published_at REAL NOT NULL, actor TEXT NOT NULL,
  PRIMARY KEY (name, version)
) WITHOUT ROWID;
"""
_HEAD: Final = "name, version, description, steps, published_at, actor"


class SequenceDiskFull(SequenceError):
    """No room for another version."""


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """One version, without its text. `steps` counts them."""

    name: str
    version: int
    description: str
    steps: int
    published_at: float
    actor: str


@dataclass(frozen=True, slots=True)
class PublishedSequence:
    """One version: the `text` that people wrote, the signed `document` that targets take, and the sequence itself."""

    head: PublishedVersion
    text: str = field(repr=False)
    document: str = field(repr=False)
    sequence: TaskSequence = field(repr=False)

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def version(self) -> int:
        return self.head.version

    @property
    def description(self) -> str:
        return self.head.description


class SequenceStore:
    """Any thread; blocks for the disk. Every method raises SequenceError where the file cannot be used."""

    def __init__(self, path: Path, public_key: bytes, sign: Sign, *, clock: Callable[[], float] = time.time) -> None:
        """What another key has signed is signed once more: the library has had a new one made."""
        self._public_key, self._sign, self._clock = public_key, sign, clock
        self._database = Database(path, [_TABLES], error=SequenceError, full=SequenceDiskFull)
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[str, int], PublishedSequence] = OrderedDict()
        try:
            self._sign_again()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    # ---- looking

    def newest(self) -> list[PublishedVersion]:
        """The newest version of each, by name."""
        among = "SELECT name, MAX(version) FROM version GROUP BY name"
        return self._heads(f"WHERE (name, version) IN ({among}) ORDER BY name")

    def versions(self, name: str) -> list[PublishedVersion]:
        """Of one sequence, the newest first. Raises SequenceNotFound."""
        found = self._heads("WHERE name = ? ORDER BY version DESC", name)
        if not found:
            raise self._no_such(name, 0)
        return found

    def find(self, name: str, version: int = 0) -> PublishedSequence:
        """This version, or with 0 the newest. Raises SequenceNotFound, and SequenceError where it is damaged."""
        found = self._heads(
            "WHERE name = ? AND (version = ? OR ? = 0) ORDER BY version DESC LIMIT 1", name, version, version
        )
        if not found:
            raise self._no_such(name, version)
        head = found[0]
        key = head.name.lower(), head.version
        with self._lock:
            if key in self._read:
                self._read.move_to_end(key)
                return self._read[key]
        read = self._load(head)
        with self._lock:
            self._read[key] = read
            while len(self._read) > KEPT_IN_MEMORY:
                self._read.popitem(last=False)
        return read

    def has(self, name: str, version: int = 0) -> bool:
        """Whether there is one that `find` would find."""
        query = "SELECT 1 FROM version WHERE name = ? AND (version = ? OR ? = 0) LIMIT 1"
        return bool(self._database.rows(query, name, version, version))

    # ---- changing

    def publish(self, text: str, actor: str, look: Look | None, version: int = 0) -> tuple[PublishedSequence, bool]:
        """A document as a new version, and whether it is one: the same text as the newest's changes nothing. `version` is the number
        that it gets, which may leave some out; 0 is the next. Raises SequenceRefused, SequenceConflict, SequenceDiskFull."""
        read = read_document(text)
        if read.sequence is None:
            raise SequenceRefused(read.problems)
        if problems := check_sequence(read.sequence, look):
            raise SequenceRefused(problems)
        with self._database.transaction() as connection:
            number, is_new = _number(connection, read.sequence.name, text, version)
            if is_new:
                self._add(connection, replace(read.sequence, version=number), text, actor)
        return self.find(read.sequence.name, number), is_new

    def remove(self, name: str, version: int = 0) -> list[PublishedVersion]:
        """This version, or with 0 all of them; what there was. Their numbers are not given again. Raises SequenceNotFound."""
        with self._database.transaction() as connection:
            where = "WHERE name = ? AND (version = ? OR ? = 0)"
            found = connection.execute(
                f"SELECT {_HEAD} FROM version {where} ORDER BY version DESC", (name, version, version)
            )
            gone = [PublishedVersion(*row) for row in found.fetchall()]
            connection.execute(f"DELETE FROM version {where}", (name, version, version))
        if not gone:
            raise self._no_such(name, version)
        with self._lock:
            self._read.clear()
        return gone

    # ---- the file

    def _heads(self, where: str, *values: Any) -> list[PublishedVersion]:
        return [PublishedVersion(*row) for row in self._database.rows(f"SELECT {_HEAD} FROM version {where}", *values)]

    def _load(self, head: PublishedVersion) -> PublishedSequence:
        query = "SELECT text, document FROM version WHERE name = ? AND version = ?"
        rows = self._database.rows(query, head.name, head.version)
        if not rows:  # removed since
            raise self._no_such(head.name, head.version)
        text, document = rows[0]
        try:
            sequence, _ = read_signed(document, self._public_key)
        except SequenceError as error:
            named = write_reference(head.name, head.version)
            raise SequenceError(f"{named}: {error}; publish it once more, and check the disk") from None
        return PublishedSequence(head, text, document, sequence)

    def _add(self, connection: sqlite3.Connection, sequence: TaskSequence, text: str, actor: str) -> None:
        document = write_signed(sequence, self._public_key, self._sign)
        row = (
            sequence.name,
            sequence.version,
            sequence.description,
            text,
            document,
            len(sequence.steps()),
            self._clock(),
            actor,
        )
        connection.execute(
            "INSERT INTO version (name, version, description, text, document, steps, published_at, actor)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        connection.execute("INSERT OR REPLACE INTO sequence VALUES (?, ?)", (sequence.name, sequence.version))

    def _sign_again(self) -> None:
        for name, version, document in self._database.rows("SELECT name, version, document FROM version"):
            try:
                sequence, signer = read_signed(document, None)
            except SequenceError:
                continue  # stays as it is, for `find` to tell
            if signer != self._public_key:
                signed = write_signed(sequence, self._public_key, self._sign)
                with self._database.transaction() as connection:
                    connection.execute(
                        "UPDATE version SET document = ? WHERE name = ? AND version = ?", (signed, name, version)
                    )

    def _no_such(self, name: str, version: int) -> SequenceNotFound:
        named = write_reference(name[:60], version)
        return SequenceNotFound(f"no task sequence {named}; `dpd sequence list` shows those there are")


def _number(connection: sqlite3.Connection, name: str, text: str, wanted: int) -> tuple[int, bool]:
    """The number that a text gets, and whether that is a new one."""
    row = connection.execute("SELECT last_version FROM sequence WHERE name = ?", (name,)).fetchone()
    last = int(row[0]) if row else 0
    there = dict(connection.execute("SELECT version, text FROM version WHERE name = ?", (name,)).fetchall())
    if wanted and wanted <= last:
        if there.get(wanted) == text:
            return wanted, False
        what = "is another text" if wanted in there else "was removed or left out"
        raise SequenceConflict(
            f"{write_reference(name, wanted)} {what}, and no number is given twice; publish as version {last + 1}"
        )
    if not wanted and there and there[max(there)] == text:
        return max(there), False
    if last >= MAX_VERSION:
        raise SequenceConflict(f"{name}: no version is left after {last}; publish it by another name")
    return wanted or last + 1, True
