# SPDX-License-Identifier: Apache-2.0
"""Changes of many that share a transaction."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dpd.database import Database
from dpd.deployment.group_commit import GroupCommit
from dpd.errors import DeploymentDiskFull, DeploymentError

PATIENCE_S = 30.0


def open_numbers(folder: Path) -> Database:
    return Database(folder / "numbers.db", ["CREATE TABLE number (n INTEGER UNIQUE);"], error=DeploymentError, full=DeploymentDiskFull)  # fmt: skip


def insert(connection: sqlite3.Connection, n: int) -> int:
    connection.execute("INSERT INTO number VALUES (?)", (n,))
    return n


def test_those_who_come_while_one_writes_share_the_next_transaction(tmp_path: Path) -> None:
    database = open_numbers(tmp_path)
    published: list[int] = []
    commit = GroupCommit(database, lambda connection: connection, lambda draft: published.append(1))
    is_writing, may_go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> int:
        is_writing.set()
        assert may_go_on.wait(PATIENCE_S)
        return insert(connection, 0)

    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(commit.write, hold)
        assert is_writing.wait(PATIENCE_S)
        others = [threads.submit(commit.write, lambda connection, n=n: insert(connection, n)) for n in range(1, 9)]
        while len(commit._waiting) < 8:
            threading.Event().wait(0.01)
        may_go_on.set()
        assert [first.result(PATIENCE_S), *(each.result(PATIENCE_S) for each in others)] == list(range(9))
    assert database.rows("SELECT count(*) FROM number") == [(9,)]
    assert len(published) == 2
    database.close()


def test_one_who_is_refused_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    database = open_numbers(tmp_path)
    commit = GroupCommit(database, lambda connection: connection, lambda draft: None)

    def refuse(connection: sqlite3.Connection) -> None:
        raise DeploymentError("no such execution")

    with ThreadPoolExecutor(4) as threads:
        written = [threads.submit(commit.write, lambda connection, n=n: insert(connection, n)) for n in range(20)]
        refused = [threads.submit(commit.write, refuse) for _ in range(5)]
        assert sorted(each.result(PATIENCE_S) for each in written) == list(range(20))
        for each in refused:
            with pytest.raises(DeploymentError, match="no such execution"):
                each.result(PATIENCE_S)
    assert database.rows("SELECT count(*) FROM number") == [(20,)]
    database.close()


def test_where_the_file_refuses_everybody_hears_it_and_nothing_is_published(tmp_path: Path) -> None:
    database = open_numbers(tmp_path)
    published: list[int] = []
    commit = GroupCommit(database, lambda connection: connection, lambda draft: published.append(1))
    commit.write(lambda connection: insert(connection, 1))
    with pytest.raises(DeploymentError, match="UNIQUE"):
        commit.write(lambda connection: insert(connection, 1))
    assert len(published) == 1
    commit.write(lambda connection: insert(connection, 2))  # the next one is written again
    assert database.rows("SELECT n FROM number ORDER BY n") == [(1,), (2,)]
    database.close()
