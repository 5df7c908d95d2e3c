# SPDX-License-Identifier: Apache-2.0
"""Executions as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.database import Database
from dpd.deployment import execution_table as table
from dpd.deployment.database import open_database
from dpd.deployment.execution import Execution, ExecutionState, StepRun, StepState
from dpd.deployment.execution_table import KeptReport, Wanted

FULL = Execution(
    "e1", "pc-1", "PC-1", "52:54:00:00:00:01", 7, "debian", 3, 1000.5, 8200.5, ExecutionState.FAILED, 1200.5, 1300.5, 12,
    "2.1", "last words", "no room", "too late", "alice", 4096, True,
    (
        StepRun("1", "Partition", "partition_disk", StepState.DONE, 1001.5, 1002.5, 1, "done", 1, 2, 3.5),
        StepRun("2.1", "Apply", "apply_os_image", StepState.FAILED, 1003.5, 1004.5, 2, "no room", 1 << 40, 1 << 41, 1e9),
    ),
)  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "deployment.db")
    yield database
    database.close()


def add(database: Database, *executions: Execution) -> None:
    with database.transaction() as connection:
        for each in executions:
            table.insert_execution(connection, each)


def test_what_was_written_is_read_again_in_every_field(database: Database) -> None:
    add(database, FULL)
    assert table.find_executions(database, "id = ?", "e1") == [FULL]


def test_a_change_is_read_again_in_every_field(database: Database) -> None:
    begun = replace(FULL, state=ExecutionState.RUNNING, ended_at=0.0, reported=1, steps=(FULL.steps[0], replace(FULL.steps[1], state=StepState.RUNNING)))  # fmt: skip
    add(database, begun)
    with database.transaction() as connection:
        table.change_execution(connection, begun, FULL)
    assert table.find_executions(database, "id = ?", "e1") == [FULL]


def test_an_execution_that_ends_is_written_with_the_progress_that_was_in_memory_alone(database: Database) -> None:
    begun = replace(FULL, state=ExecutionState.RUNNING)
    add(database, begun)
    in_memory = replace(begun, steps=(begun.steps[0], replace(begun.steps[1], done_bytes=77)))
    with database.transaction() as connection:
        table.change_execution(connection, in_memory, replace(in_memory, state=ExecutionState.LOST))
    assert table.find_executions(database, "id = ?", "e1")[0].steps[1].done_bytes == 77


def test_lists_are_newest_first_and_narrowed_by_what_is_wanted(database: Database) -> None:
    states = [ExecutionState.DONE, ExecutionState.FAILED, ExecutionState.RUNNING, ExecutionState.RESTARTING]
    rows = [
        replace(FULL, id=f"e{number}", machine=f"pc-{number % 2}", mac=f"52:54:00:00:00:0{number}", deployment=number // 2, state=state)
        for number, state in enumerate(states)
    ]  # fmt: skip
    add(database, *rows)

    def ids(wanted: Wanted, limit: int = 10) -> list[str]:
        return [each.id for each in table.list_executions(database, wanted, limit)]

    assert ids(Wanted()) == ["e3", "e2", "e1", "e0"]
    assert ids(Wanted(), 2) == ["e3", "e2"]
    assert ids(Wanted(before="e2")) == ["e1", "e0"]
    assert ids(Wanted(machine="PC-1")) == ["e3", "e1"]
    for mac in ("52:54:00:00:00:02", "52-54-00-00-00-02", "525400000002"):
        assert ids(Wanted(machine=mac)) == ["e2"]
    assert ids(Wanted(deployment=0)) == ["e1", "e0"]
    assert ids(Wanted(states=frozenset({ExecutionState.DONE, ExecutionState.RUNNING}))) == ["e2", "e0"]
    assert ids(Wanted("pc-1", 1, frozenset({ExecutionState.RESTARTING}), "")) == ["e3"]
    assert [each.id for each in table.open_executions(database)] == ["e2", "e3"]


def test_reports_are_read_by_pages_in_their_order(database: Database) -> None:
    add(database, FULL)
    kept = [KeptReport(number, 1000.5, 1001.5, "1", "done", "ok") for number in range(1, 6)]
    with database.transaction() as connection:
        table.insert_reports(connection, "e1", kept)
    assert table.list_reports(database, "e1", 0, 3) == kept[:3]
    assert table.list_reports(database, "e1", 3, 3) == kept[3:]


def test_what_ended_long_ago_goes_but_the_last_of_each_machine_and_what_is_open(database: Database) -> None:
    old = replace(FULL, ended_at=10.0)
    add(
        database,
        replace(old, id="gone"),
        replace(old, id="open", state=ExecutionState.RUNNING),
        replace(old, id="last"),
        replace(old, id="alone", machine="pc-9"),
    )
    with database.transaction() as connection:
        assert table.forget_ended(connection, 20.0) == ["gone"]
        assert table.forget_ended(connection, 20.0) == []
    assert {each.id for each in table.list_executions(database, Wanted(), 10)} == {"open", "last", "alone"}
