# SPDX-License-Identifier: Apache-2.0
"""The file of the site store: whole changes, signed; what cannot be used is refused with the next step."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dpd.site.database import AUDIT_ENTRIES, SiteDatabase
from dpd.site.records import AuditEntry, SiteError


def test_a_change_is_signed_and_counted_after_the_copy_has_followed(tmp_path: Path) -> None:
    database = SiteDatabase(tmp_path / "site.db", lambda: 7.0)
    versions = []
    database.change("alice", "tried", "this", lambda c: None, lambda: versions.append(database.policy_version))
    assert (versions, database.policy_version) == ([0], 1)
    assert database.audit(10) == [AuditEntry(1, 7.0, "alice", "tried", "this", 1)]
    database.close()
    again = SiteDatabase(tmp_path / "site.db")
    assert again.policy_version == 1
    assert len(again.audit(10)) == 1
    again.close()


def test_a_change_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    database = SiteDatabase(tmp_path / "site.db")

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO approval_rules VALUES (NULL, 'network', '10.0.0.0/8', 0)")
        connection.execute("INSERT INTO approval_rules VALUES (NULL, 'network', '10.0.0.0/8', 0)")

    with pytest.raises(SiteError, match=r"not written: UNIQUE .*the disk"):
        database.change("alice", "tried", "", half, lambda: None)
    assert database.rows("SELECT * FROM approval_rules") == []
    assert (database.audit(10), database.policy_version) == ([], 0)
    database.change("alice", "goes on", "", lambda c: None, lambda: None)
    database.close()


def test_others_may_not_read_the_file(tmp_path: Path) -> None:
    SiteDatabase(tmp_path / "site.db").close()
    assert (tmp_path / "site.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"not a database, " * 100, b"SQLite format 3\0" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.db"
    path.write_bytes(content)
    with pytest.raises(SiteError, match=r"site\.db: cannot be used .*move it away"):
        SiteDatabase(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="No such file"):
        SiteDatabase(tmp_path / "none" / "site.db")


def test_a_file_of_a_newer_dpd_is_refused(tmp_path: Path) -> None:
    SiteDatabase(tmp_path / "site.db").close()
    with sqlite3.connect(tmp_path / "site.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SiteError, match="newer dpd"):
        SiteDatabase(tmp_path / "site.db")


def test_the_audit_is_bounded() -> None:
    database = SiteDatabase(None)
    rows = ((number, 0.0, "a", "b", "", number) for number in range(1, AUDIT_ENTRIES + 11))
    database.write(lambda c: c.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", rows))
    database.trim_audit()
    assert len(database.audit(AUDIT_ENTRIES * 2)) == AUDIT_ENTRIES
    assert database.audit(1)[0].id == AUDIT_ENTRIES + 10
    database.close()
