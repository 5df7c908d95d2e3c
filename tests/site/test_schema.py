# SPDX-License-Identifier: Apache-2.0
"""A store of the first dpd that had one is taken over in place, whole, whenever the process is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpd.site.database import SiteDatabase
from dpd.site.records import Collection, Computer, Deployment, Purpose, Run, Verdict
from dpd.site.schema import SCHEMA_VERSION
from dpd.site.store import SiteStore

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"

# The file as dpd wrote it before collections, with something in each table; not made by today's code on purpose.
SCHEMA_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE computers (
  name TEXT PRIMARY KEY COLLATE NOCASE, guid TEXT NOT NULL, boot_image TEXT NOT NULL, added_at REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX computers_by_guid ON computers (guid) WHERE guid <> '';
CREATE TABLE computer_macs (
  mac TEXT PRIMARY KEY, place INTEGER NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE REFERENCES computers (name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX computer_macs_by_name ON computer_macs (name);
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL COLLATE NOCASE, boot_image TEXT NOT NULL, purpose TEXT NOT NULL,
  priority INTEGER NOT NULL, available_from REAL NOT NULL, expires_at REAL NOT NULL, added_at REAL NOT NULL
);
CREATE TABLE runs (
  deployment INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE, machine TEXT NOT NULL, mac TEXT NOT NULL,
  started_at REAL NOT NULL, finished_at REAL NOT NULL, PRIMARY KEY (deployment, machine)
) WITHOUT ROWID;
CREATE TABLE required_boots (id INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE verdicts (
  mac TEXT PRIMARY KEY, verdict TEXT NOT NULL, expires_at REAL NOT NULL, decided_at REAL NOT NULL, actor TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE approval_rules (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, value TEXT NOT NULL, added_at REAL NOT NULL, UNIQUE (kind, value)
);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
  policy_version INTEGER NOT NULL
);
INSERT INTO facts VALUES ('code_key', '00112233'), ('policy_version', '41'), ('maintenance', '');
INSERT INTO computers VALUES ('PC1', '4c4c4544-0044-3510-8052-b4c04f4e4d31', 'IMG9', 7.5);
INSERT INTO computer_macs VALUES ('52:54:00:00:00:0b', 1, 'PC1'), ('52:54:00:00:00:0a', 0, 'PC1');
INSERT INTO deployments VALUES (3, 'PC1', 'IMG1', 'required', 5, 10.0, 20.0, 8.5), (6, 'all', '', 'available', 0, 0.0, 0.0, 9.5);
INSERT INTO runs VALUES (3, 'pc1', '52:54:00:00:00:0a', 11.0, 12.0);
INSERT INTO verdicts VALUES ('52:54:00:00:00:0b', 'denied', 0.0, 9.0, 'bob');
INSERT INTO approval_rules VALUES (2, 'network', '10.0.0.0/8', 6.0);
INSERT INTO audit VALUES (1, 7.5, 'bob', 'computer added', 'PC1', 41);
PRAGMA user_version = 1;
"""


def write_schema_1(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1)
    connection.close()


def check_taken_over(store: SiteStore) -> None:
    assert store.computers.find("pc1") == Computer("PC1", (A, B), "4c4c4544-0044-3510-8052-b4c04f4e4d31", "IMG9", 7.5)
    assert list(store.deployments.values()) == [
        Deployment(3, "PC1", "IMG1", Purpose.REQUIRED, 5, 10.0, 20.0, 8.5),
        Deployment(6, "all", "", Purpose.AVAILABLE, 0, 0.0, 0.0, 9.5),
    ]
    assert store.runs.all() == [Run(3, "pc1", A, 11.0, 12.0)]
    assert store.approvals.verdicts[B].verdict is Verdict.DENIED
    assert [(each.id, each.value) for each in store.approvals.rules] == [(2, "10.0.0.0/8")]
    assert (store.code_key.hex(), store.policy_version, store.authority) == ("00112233", 41, None)
    assert [each.actor for each in store.audit(5)] == ["bob"]


def test_a_store_of_schema_1_is_taken_over_with_all_that_it_says(tmp_path: Path) -> None:
    write_schema_1(tmp_path / "site.db")
    store = SiteStore(tmp_path / "site.db")
    check_taken_over(store)
    store.add_collection(Collection("lab", ("PC1",)), "alice")
    assert store.add_deployment(Deployment(0, "collection:lab", "", Purpose.REQUIRED), "alice").id == 7
    store.close()
    again = SiteStore(tmp_path / "site.db")
    assert [each.name for each in again.membership.members("lab")] == ["PC1"]
    assert list(again.deployments) == [3, 6, 7]
    assert again.variables.all() == ()
    again.close()


def test_a_new_store_has_the_tables_of_one_that_was_taken_over(tmp_path: Path) -> None:
    write_schema_1(tmp_path / "old.db")

    def tables(path: Path) -> tuple[int, list[tuple[str, ...]], list[str]]:
        database = SiteDatabase(path)
        (version,) = database.rows("PRAGMA user_version")[0]
        columns = database.rows(
            "SELECT t.name, c.name, c.type, c.dflt_value, c.pk FROM sqlite_master t, pragma_table_info(t.name) c"
            " WHERE t.type = 'table' AND t.name <> 'sqlite_sequence' ORDER BY 1, 2"
        )
        facts = sorted(database.facts)
        database.close()
        return version, columns, facts

    assert tables(tmp_path / "old.db") == tables(tmp_path / "new.db")
    assert tables(tmp_path / "new.db")[0] == SCHEMA_VERSION


TAKE_OVER = """
import sys
from pathlib import Path
from dpd.site.store import SiteStore
print("begun", flush=True)
SiteStore(Path(sys.argv[1]))
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("after_ms", [0, 1, 3, 10, None])
def test_whenever_it_is_killed_the_store_is_wholly_of_one_schema_and_is_taken_over_the_next_time(
    tmp_path: Path, after_ms: int | None
) -> None:
    path = tmp_path / "site.db"
    write_schema_1(path)
    with subprocess.Popen(
        [sys.executable, "-c", TAKE_OVER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        if after_ms is None:
            assert process.stdout.readline() == b"done\n"
        else:
            time.sleep(after_ms / 1000)
        process.kill()
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert version in (1, SCHEMA_VERSION)
    assert ({"collections", "points", "boundaries"} <= tables) == (version == SCHEMA_VERSION)
    store = SiteStore(path)
    check_taken_over(store)
    store.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    write_schema_1(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE boundaries (somebody TEXT)")  # so that the step's last tables cannot be made
    connection.close()
    with pytest.raises(Exception, match=r"site\.db: cannot be used as the site store: table boundaries already exists"):
        SiteStore(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'collections'").fetchone() == (0,)
    connection.execute("DROP TABLE boundaries")
    connection.close()
    store = SiteStore(path)
    check_taken_over(store)
    store.close()
