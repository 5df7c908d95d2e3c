# SPDX-License-Identifier: Apache-2.0
"""The file that executions are in."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dpd.deployment.database import open_database
from dpd.errors import DeploymentError


def test_a_file_of_a_newer_dpd_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "deployment.db"
    open_database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DeploymentError, match="written by a newer dpd"):
        open_database(path)


def test_what_belongs_to_an_execution_goes_with_it(tmp_path: Path) -> None:
    database = open_database(tmp_path / "deployment.db")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO execution VALUES (1, 'e', 'm', '', '', 1, 's', 1, 0, 0, 'done', 0, 0, 0, '', '', '', '', '', 0, 0)"
        )
        connection.execute("INSERT INTO report VALUES ('e', 1, 0, 0, '', 'done', '')")
        connection.execute("DELETE FROM execution")
    assert database.rows("SELECT * FROM report") == []
    database.close()
