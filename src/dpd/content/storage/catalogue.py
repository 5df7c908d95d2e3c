# SPDX-License-Identifier: Apache-2.0
"""What the library holds, in SQLite: one row for each published package version. A row is what makes content exist."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.records import BlobRow, Content, ContentQuery, FileEntry, Place, Totals
from dpd.content.storage.blob_table import BlobTable
from dpd.content.storage.schema import MIGRATIONS
from dpd.content.storage.tally import Tally
from dpd.content.wim.xml import ImageSummary
from dpd.database import Database
from dpd.errors import ContentError, LibraryFull

__all__ = ["Catalogue", "Content"]

EPOCHS = 1 << 16  # 16 bits in a datagram
_COLUMNS = (
    "package_id, source_version, kind, format, name, size_bytes, sha256, slab_count, file_count, images, tags, added_at"
)
_LOST = (
    "missing or empty, but there are blobs beside it; restore it from a backup, or move blobs/ away and publish again"
)


class Catalogue:
    """The rows. Every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path, *, may_make: bool = True) -> None:
        """`may_make`: an empty or missing file may become a new catalogue; else ContentError."""
        lost = "" if may_make else _LOST
        self._database = Database(path, MIGRATIONS, error=ContentError, full=LibraryFull, empty_is_an_error=lost)
        self._tally = Tally(self._database)
        self.blobs = BlobTable(self._database, self._tally)

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    # ---- looking

    def contents(self) -> list[Content]:
        """All of it, by package, oldest version first."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM content ORDER BY package_id, source_version")
        return [_content(row) for row in rows]

    def page(self, after: tuple[str, int] | None, limit: int, query: ContentQuery) -> list[Content]:
        """The first ones behind `after`, in the same order."""
        where, values = _conditions(query)
        if after is not None:
            where.append("(package_id, source_version) > (?, ?)")
            values.extend(after)
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM content {condition} ORDER BY package_id, source_version LIMIT ?", *values, limit
        )
        return [_content(row) for row in rows]

    def versions(self) -> set[tuple[str, int]]:
        """The keys of all rows."""
        return set(self._database.rows("SELECT package_id, source_version FROM content"))

    def totals(self) -> Totals:
        """Everything in numbers, without waiting for anything."""
        return self._tally.totals

    def find(self, package_id: str, source_version: int | None) -> Content | None:
        """This version, or the newest for None."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM content WHERE package_id = ? AND source_version = ifnull(?, source_version)"
            " ORDER BY source_version DESC LIMIT 1",
            package_id,
            source_version,
        )
        return _content(rows[0]) if rows else None

    def manifest_of(self, content: Content) -> str | None:
        """Which manifest belongs to this very content, "" where it has none; None if it has been removed meanwhile."""
        rows = self._about("SELECT manifest FROM content", content)
        return str(rows[0][0]) if rows else None

    def files(self, content: Content, after: str = "", limit: int = -1) -> list[FileEntry]:
        """Its files behind a path, at most so many, in the order of their paths."""
        rows = self._database.rows(
            "SELECT file.path, blob.size_bytes, blob.sha256 FROM content"
            " JOIN file ON file.content = content.id JOIN blob ON blob.id = file.blob"
            " WHERE content.package_id = ? AND content.source_version = ? AND content.sha256 = ? AND file.path > ?"
            " ORDER BY file.path LIMIT ?",
            content.package_id,
            content.source_version,
            content.sha256,
            after,
            limit,
        )
        return [FileEntry(*row) for row in rows]

    def file(self, content: Content, path: str) -> BlobRow | None:
        """The blob behind a path."""
        rows = self._about(
            "SELECT blob.sha256 FROM content"
            " JOIN file ON file.content = content.id AND file.path = ? JOIN blob ON blob.id = file.blob",
            content,
            path,
        )
        return self.blobs.blob(rows[0][0]) if rows else None

    def directories(self, content: Content) -> tuple[str, ...]:
        """Its empty folders."""
        rows = self._about("SELECT directories FROM content", content)
        return tuple(json.loads(rows[0][0])) if rows else ()

    def users_of(self, sha256: str) -> list[Content]:
        """Who needs a blob."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM content WHERE id IN"
            " (SELECT content FROM file JOIN blob ON blob.id = file.blob WHERE blob.sha256 = ?)"
            " ORDER BY package_id, source_version",
            sha256,
        )
        return [_content(row) for row in rows]

    def damaged(self) -> list[tuple[str, int]]:
        """Package and version of every content with a damaged blob."""
        return self._database.rows(
            "SELECT DISTINCT package_id, source_version FROM blob JOIN file ON file.blob = blob.id"
            " JOIN content ON content.id = file.content WHERE blob.state = 'damaged'"
        )

    def in_roots(self, roots: Sequence[int], package_ids: Sequence[str]) -> list[tuple[str, int]]:
        """Package and version of those contents of these packages with a blob in one of these roots."""
        packages, numbers = ",".join("?" * len(package_ids)), ",".join("?" * len(roots))
        return self._database.rows(
            f"SELECT package_id, source_version FROM content WHERE package_id IN ({packages}) AND EXISTS"
            " (SELECT 1 FROM file JOIN blob ON blob.id = file.blob"
            f" WHERE file.content = content.id AND blob.root IN ({numbers}))",
            *package_ids,
            *roots,
        )

    def manifests(self) -> set[str]:
        """The manifests that some content needs."""
        return {row[0] for row in self._database.rows("SELECT manifest FROM content WHERE manifest != ''")}

    def _about(self, select: str, content: Content, *first: Any) -> list[Any]:
        return self._database.rows(
            f"{select} WHERE content.package_id = ? AND content.source_version = ? AND content.sha256 = ?",
            *first,
            content.package_id,
            content.source_version,
            content.sha256,
        )

    # ---- changing

    def put(
        self,
        content: Content,
        manifest: str,
        files: Sequence[FileEntry],
        directories: Sequence[str] = (),
        adopted: Sequence[BlobRow] = (),
    ) -> list[Place]:
        """The publish point: from here on the content exists, with this manifest and these files, whose blobs are here or
        among those just adopted. What existed under this version has the same files. Answers the places where the adopted
        ones were before."""
        with self._tally.change() as connection:
            before = self.blobs.vouch(connection, adopted)
            number, is_new = self._put_row(connection, content, manifest, directories)
            if is_new:
                connection.executemany(
                    "INSERT INTO file SELECT ?, ?, id FROM blob WHERE sha256 = ?",
                    ((number, entry.path, entry.sha256) for entry in files),
                )
                self._tally.count_files(connection, number)
            (kept,) = connection.execute("SELECT count(*) FROM file WHERE content = ?", (number,)).fetchone()
            if kept != len(files):
                raise ContentError(f"{content}: {len(files) - kept} of its blobs are not in the library; try again")
        return before

    def _put_row(
        self, connection: sqlite3.Connection, content: Content, manifest: str, directories: Sequence[str]
    ) -> tuple[int, bool]:
        """The row's id, and whether there was none before."""
        key = (content.package_id, content.source_version)
        find = "SELECT id FROM content WHERE package_id = ? AND source_version = ?"
        is_new = connection.execute(find, key).fetchone() is None
        images = json.dumps([image.to_row() for image in content.images])
        plain: tuple[str | int, ...] = (*key, content.kind, content.format, content.name, content.size_bytes)
        plain += (content.sha256, content.slab_count, content.file_count, images, json.dumps(content.tags))
        connection.execute(
            f"INSERT INTO content ({_COLUMNS}, manifest, directories) VALUES ({', '.join('?' * 14)})"
            " ON CONFLICT (package_id, source_version) DO UPDATE SET slab_count = excluded.slab_count,"
            " images = excluded.images, kind = excluded.kind, tags = excluded.tags, manifest = excluded.manifest",
            (*plain, content.added_at, manifest, json.dumps(directories)),
        )
        (number,) = connection.execute(find, key).fetchone()
        _put_tags(connection, number, content.tags)
        return int(number), is_new

    def set_tags(self, content: Content, tags: Sequence[str]) -> bool:
        """Whether it is still there."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "UPDATE content SET tags = ? WHERE package_id = ? AND source_version = ? AND sha256 = ? RETURNING id",
                (json.dumps(tags), content.package_id, content.source_version, content.sha256),
            ).fetchone()
            if row is not None:
                _put_tags(connection, row[0], tags)
        return row is not None

    def remove(self, content: Content, held: Iterable[str] = ()) -> list[Place]:
        """Take it out, and the blobs that nobody else needs, but for those held. Answers where their files are now loose."""
        with self._tally.change() as connection:
            (number,) = connection.execute(
                "SELECT id FROM content WHERE package_id = ? AND source_version = ?",
                (content.package_id, content.source_version),
            ).fetchone()
            blobs = [
                row[0] for row in connection.execute("SELECT DISTINCT blob FROM file WHERE content = ?", (number,))
            ]
            self._tally.count_files(connection, number, -1)
            connection.execute("DELETE FROM content WHERE id = ?", (number,))
            return self.blobs.drop_unneeded(connection, blobs, held)

    def next_epoch(self) -> int:
        """Counts on at each call, from 1, and wraps to 0."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO counter VALUES ('epoch', 0)")
            connection.execute("UPDATE counter SET value = (value + 1) % ? WHERE name = 'epoch'", (EPOCHS,))
            return int(connection.execute("SELECT value FROM counter WHERE name = 'epoch'").fetchone()[0])


def _put_tags(connection: sqlite3.Connection, content: int, tags: Sequence[str]) -> None:
    connection.execute("DELETE FROM tag WHERE content = ?", (content,))
    connection.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?)", ((tag, content) for tag in tags))


def _conditions(query: ContentQuery) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if query.text:
        where.append("(instr(lower(package_id), lower(?)) OR instr(lower(name), lower(?)))")
        values += [query.text, query.text]
    if query.kind is not None:
        where.append("kind = ?")
        values.append(query.kind)
    for tag in query.tags:
        where.append("id IN (SELECT content FROM tag WHERE tag = ? OR (tag >= ? AND tag < ?))")
        values += [tag, f"{tag}=", f"{tag}>"] if "=" not in tag else [tag, "", ""]  # ">" follows "="
    if query.newest:
        where.append(
            "source_version = (SELECT max(source_version) FROM content AS other WHERE other.package_id = content.package_id)"
        )
    return where, values


def _content(row: Any) -> Content:
    package_id, source_version, kind, content_format, *plain, images, tags, added_at = row
    fields: list[Any] = [package_id, source_version, ContentKind(kind), ContentFormat(content_format), *plain]
    fields += [tuple(map(ImageSummary.from_row, json.loads(images))), tuple(json.loads(tags)), added_at]
    return Content(*fields)
