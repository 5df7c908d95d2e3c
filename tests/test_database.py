# SPDX-License-Identifier: Apache-2.0
"""An SQLite file with one owner."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from dpd.database import Database
from dpd.errors import ContentError, LibraryFull

FIRST = "CREATE TABLE thing (name TEXT PRIMARY KEY);"
SECOND = "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 7;"


def open_database(path: Path, *migrations: str, empty: str = "") -> Database:
    return Database(path, migrations, error=ContentError, full=LibraryFull, empty_is_an_error=empty)


def _insert(database: Database, *names: str) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO thing VALUES (?)", [(name,) for name in names])


def test_an_older_file_is_brought_to_the_newest_schema(tmp_path: Path) -> None:
    old = open_database(tmp_path / "x.db", FIRST)
    _insert(old, "a")
    old.close()
    new = open_database(tmp_path / "x.db", FIRST, SECOND)
    assert new.rows("SELECT name, size FROM thing") == [("a", 7)]
    new.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    open_database(tmp_path / "x.db", FIRST).close()
    with pytest.raises(ContentError, match="no such table: missing"):
        open_database(tmp_path / "x.db", FIRST, SECOND + " INSERT INTO missing VALUES (1);")
    again = open_database(tmp_path / "x.db", FIRST)
    assert again.rows("SELECT * FROM pragma_table_info('thing')")[0][1] == "name"
    again.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path / "x.db", FIRST, SECOND).close()
    with pytest.raises(ContentError, match=r"written by a newer dpd \(schema 2, expected at most 1\)"):
        open_database(tmp_path / "x.db", FIRST)


def test_a_file_that_must_not_be_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"x\.db: restore it"):
        open_database(tmp_path / "x.db", FIRST, empty="restore it")


def test_half_a_change_is_none(tmp_path: Path) -> None:
    database = open_database(tmp_path / "x.db", FIRST)
    with pytest.raises(ContentError, match="UNIQUE constraint failed"):
        _insert(database, "a", "b", "a")
    assert database.rows("SELECT * FROM thing") == []
    database.close()


def test_a_full_disk_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    database = open_database(tmp_path / "x.db", FIRST)
    database.rows("PRAGMA max_page_count = 3")
    with pytest.raises(LibraryFull, match="the disk is full"):
        _insert(database, *(f"{number:0500}" for number in range(1000)))
    database.close()
    (tmp_path / "x.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(ContentError, match="check the disk, or restore the file from a backup"):
        open_database(tmp_path / "x.db", FIRST)


def test_any_thread_may_ask_until_it_is_closed(tmp_path: Path) -> None:
    database, found = open_database(tmp_path / "x.db", FIRST), []
    thread = threading.Thread(target=lambda: found.append(database.rows("SELECT count(*) FROM thing")))
    thread.start()
    thread.join()
    assert found == [[(0,)]]
    database.close()
    database.close()
    with pytest.raises(ContentError, match="has been closed"):
        database.rows("SELECT 1")


def test_its_owner_alone_writes_but_others_may_read(tmp_path: Path) -> None:
    database = open_database(tmp_path / "x.db", FIRST)
    with database.transaction() as connection:
        connection.execute("INSERT INTO thing VALUES ('a')")
        reader = sqlite3.connect(f"file:{tmp_path / 'x.db'}?mode=ro", uri=True)
        assert reader.execute("SELECT count(*) FROM thing").fetchone() == (0,)
        reader.close()
    database.close()
