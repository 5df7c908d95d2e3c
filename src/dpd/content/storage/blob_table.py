# SPDX-License-Identifier: Apache-2.0
"""The rows of blobs, of the roots that hold them, and of places where a file may lie that no row vouches for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from dpd.content.records import BlobRow, BlobState, Place, RootRow, RootState
from dpd.content.storage.tally import Tally
from dpd.database import Database
from dpd.errors import ContentError

_COLUMNS = "sha256, size_bytes, root, state"
_BATCH = 500  # values in one query; SQLite takes 32766


class BlobTable:
    """The rows. What takes a connection is part of the caller's transaction; all else is one of its own."""

    def __init__(self, database: Database, tally: Tally) -> None:
        self._database, self._tally = database, tally

    # ---- blobs

    def blob(self, sha256: str) -> BlobRow | None:
        """One blob, if it is in the library."""
        return self.known([sha256]).get(sha256)

    def known(self, hashes: Iterable[str]) -> dict[str, BlobRow]:
        """Those of these blobs that are in the library."""
        wanted, rows = list(hashes), []
        for at in range(0, len(wanted), _BATCH):
            batch = wanted[at : at + _BATCH]
            marks = ", ".join("?" * len(batch))
            rows += self._database.rows(f"SELECT {_COLUMNS} FROM blob WHERE sha256 IN ({marks})", *batch)
        return {row[0]: _blob(row) for row in rows}

    def of_root(self, root: int, after_sha256: str = "", limit: int = 1000) -> list[BlobRow]:
        """The blobs of a root in the order of their hashes, behind one of them."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM blob WHERE root = ? AND sha256 > ? ORDER BY sha256 LIMIT ?",
            root,
            after_sha256,
            limit,
        )
        return [_blob(row) for row in rows]

    def hashes_of(self, root: int, prefix: str) -> set[str]:
        """The blobs of a root whose hashes begin with these hex digits."""
        query = "SELECT sha256 FROM blob WHERE root = ? AND sha256 >= ? AND sha256 < ?"
        return {row[0] for row in self._database.rows(query, root, prefix, prefix + "g")}

    def bytes_of_root(self, root: int) -> tuple[int, int]:
        """How many blobs a root holds, and how many bytes."""
        ((blobs, size_bytes),) = self._database.rows(
            "SELECT count(*), ifnull(sum(size_bytes), 0) FROM blob WHERE root = ?", root
        )
        return blobs, size_bytes

    def damaged(self) -> list[BlobRow]:
        """The blobs that were found damaged and not mended since."""
        return [_blob(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM blob WHERE state = 'damaged'")]

    def unneeded(self) -> list[BlobRow]:
        """The blobs that no content needs."""
        return [
            _blob(row)
            for row in self._database.rows(
                f"SELECT {_COLUMNS} FROM blob WHERE NOT EXISTS (SELECT 1 FROM file WHERE file.blob = blob.id)"
            )
        ]

    def mark(self, sha256: str, state: BlobState) -> None:
        """Another state for a blob; one that is gone stays gone."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE blob SET state = ? WHERE sha256 = ?", (state, sha256))

    def add(self, adopted: Sequence[BlobRow]) -> list[Place]:
        """Vouch for blobs that no content needs yet. Answers the places where they were before."""
        with self._tally.change() as connection:
            return self.vouch(connection, adopted)

    def drop(self, hashes: Iterable[str], held: Iterable[str] = ()) -> list[Place]:
        """Take out those of these blobs that nobody needs, but for those held. Answers where their files are now loose."""
        with self._tally.change() as connection:
            found = (
                connection.execute("SELECT id FROM blob WHERE sha256 = ?", (sha256,)).fetchone() for sha256 in hashes
            )
            return self.drop_unneeded(connection, [row[0] for row in found if row is not None], held)

    def vouch(self, connection: sqlite3.Connection, adopted: Sequence[BlobRow]) -> list[Place]:
        """These blobs are whole and in place. Where one lay in another root before, that place is loose now, and told."""
        roots = _roots_of(connection, [row.sha256 for row in adopted])
        before = [
            Place(row.sha256, roots[row.sha256]) for row in adopted if roots.get(row.sha256, row.root) != row.root
        ]
        connection.executemany(
            f"INSERT INTO blob ({_COLUMNS}) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (sha256) DO UPDATE SET root = excluded.root, state = excluded.state",
            ((row.sha256, row.size_bytes, row.root, row.state) for row in adopted),
        )
        self._tally.count_blobs(
            connection, list({row.sha256: row.size_bytes for row in adopted if row.sha256 not in roots}.values())
        )
        _delete_loose(connection, (Place(row.sha256, row.root) for row in adopted))
        _insert_loose(connection, before)
        return before

    def drop_unneeded(
        self, connection: sqlite3.Connection, blobs: Iterable[int], held: Iterable[str] = ()
    ) -> list[Place]:
        """Of these blobs, by the ids of their rows, those that no file is made of go."""
        keep, places, sizes = frozenset(held), list[Place](), list[int]()
        for number in blobs:
            row = connection.execute(
                "SELECT sha256, root, size_bytes FROM blob WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM file WHERE blob = blob.id)",
                (number,),
            ).fetchone()
            if row is not None and row[0] not in keep:
                connection.execute("DELETE FROM blob WHERE id = ?", (number,))
                places.append(Place(row[0], row[1]))
                sizes.append(row[2])
        self._tally.count_blobs(connection, sizes, -1)
        _insert_loose(connection, places)
        return places

    # ---- places that nobody vouches for

    def note_loose(self, places: Iterable[Place]) -> None:
        """Before a file is made there."""
        with self._database.transaction() as connection:
            _insert_loose(connection, places)

    def forget_loose(self, places: Iterable[Place]) -> None:
        """After it is known that no file is there, or that a row vouches for it."""
        with self._database.transaction() as connection:
            _delete_loose(connection, places)

    def loose(self) -> list[Place]:
        """All of them. A blob's row may have come since."""
        return [Place(*row) for row in self._database.rows("SELECT sha256, root FROM loose")]

    # ---- roots

    def library_id(self) -> str:
        """32 hex digits that tell this library from every other one."""
        ((name,),) = self._database.rows("SELECT value FROM fact WHERE name = 'library'")
        return str(name)

    def roots(self) -> list[RootRow]:
        """In the order in which they were added, which is the order in which they are filled."""
        rows = self._database.rows("SELECT id, path, reserve_bytes, state FROM root ORDER BY id")
        return [RootRow(number, path, reserve, RootState(state)) for number, path, reserve, state in rows]

    def add_root(self, path: str, reserve_bytes: int) -> int:
        """The id of a new root, which no other root ever had. Raises ContentError for a path that is one already."""
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM root WHERE path = ?", (path,)).fetchone():
                raise ContentError(f"{path}: is a root of this library already; `dpd root list` shows them")
            cursor = connection.execute(
                "INSERT INTO root (path, reserve_bytes, state) VALUES (?, ?, 'active')", (path, reserve_bytes)
            )
            return int(cursor.lastrowid or 0)

    def change_root(self, root: int, *, reserve_bytes: int | None = None, state: RootState | None = None) -> None:
        """What is not given stays."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE root SET reserve_bytes = ifnull(?, reserve_bytes), state = ifnull(?, state) WHERE id = ?",
                (reserve_bytes, state, root),
            )

    def remove_root(self, root: int) -> None:
        """Raises ContentError where it still holds blobs."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM loose WHERE root = ?", (root,))
            connection.execute("DELETE FROM root WHERE id = ?", (root,))

    def move(self, sha256: str, root: int) -> Place | None:
        """A blob has a whole copy in this root. Answers where it was, which is loose now; None if it is gone or was here."""
        with self._tally.change() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM blob WHERE sha256 = ?", (sha256,)).fetchone()
            if row is None:
                return None
            before = self.vouch(connection, [BlobRow(row[0], row[1], root, BlobState(row[3]))])
        return before[0] if before else None


def _roots_of(connection: sqlite3.Connection, hashes: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for at in range(0, len(hashes), _BATCH):
        batch = hashes[at : at + _BATCH]
        found.update(
            connection.execute(f"SELECT sha256, root FROM blob WHERE sha256 IN ({', '.join('?' * len(batch))})", batch)
        )
    return found


def _insert_loose(connection: sqlite3.Connection, places: Iterable[Place]) -> None:
    connection.executemany("INSERT OR IGNORE INTO loose VALUES (?, ?)", ((each.sha256, each.root) for each in places))


def _delete_loose(connection: sqlite3.Connection, places: Iterable[Place]) -> None:
    connection.executemany(
        "DELETE FROM loose WHERE sha256 = ? AND root = ?", ((each.sha256, each.root) for each in places)
    )


def _blob(row: tuple[str, int, int, str]) -> BlobRow:
    sha256, size_bytes, root, state = row
    return BlobRow(sha256, size_bytes, root, BlobState(state))
