# SPDX-License-Identifier: Apache-2.0
"""Executions as rows: written as far as they changed, read whole."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dpd.database import Database
from dpd.deployment.execution import OPEN, Execution, ExecutionState, StepRun, StepState

_COLUMNS = tuple(each.name for each in fields(Execution) if each.name != "steps")
_STEP_COLUMNS = tuple(each.name for each in fields(StepRun))
_STEP_STATE = _STEP_COLUMNS.index("state")
_MAC = re.compile("[0-9a-f]{12}")
_OPEN = ", ".join(f"'{state}'" for state in sorted(OPEN))
_CHANGE = f"UPDATE execution SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"
_INSERT = f"INSERT INTO execution ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_PUT_STEP = f"INSERT OR REPLACE INTO step (execution, place, {', '.join(_STEP_COLUMNS)}) VALUES (?, ?, {', '.join('?' * len(_STEP_COLUMNS))})"


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A numbered report as it was taken: `at` by the target's clock, `heard_at` by ours."""

    number: int
    at: float
    heard_at: float
    step: str
    state: str
    message: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions: "" and None are all. `machine` is a computer's name or a MAC in any of its forms, `before` the last one of
    the page before."""

    machine: str = ""
    deployment: int | None = None
    states: frozenset[ExecutionState] = frozenset()
    before: str = ""

    @property
    def machine_key(self) -> str:
        """As executions have it."""
        plain = self.machine.lower()
        digits = re.sub("[:-]", "", plain)
        return ":".join(digits[at : at + 2] for at in range(0, 12, 2)) if _MAC.fullmatch(digits) else plain


def insert_execution(connection: sqlite3.Connection, execution: Execution) -> None:
    """A new one."""
    connection.execute(_INSERT, _values(execution))
    _put_steps(connection, execution.id, enumerate(execution.steps))


def change_execution(connection: sqlite3.Connection, before: Execution, after: Execution) -> None:
    """What differs; all of one that has ended, since steps may have had progress that was in memory alone."""
    connection.execute(_CHANGE, (*_values(after), after.id))
    pairs = zip(before.steps, after.steps, strict=True)
    changed = [(place, new) for place, (old, new) in enumerate(pairs) if old != new or not after.is_open]
    _put_steps(connection, after.id, changed)


def insert_reports(connection: sqlite3.Connection, id: str, reports: Iterable[KeptReport]) -> None:
    """Each number once; a second one is a fault of the caller's."""
    rows = [(id, each.number, each.at, each.heard_at, each.step, each.state, each.message) for each in reports]
    connection.executemany("INSERT INTO report VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def find_executions(source: Database | sqlite3.Connection, condition: str, *values: Any) -> list[Execution]:
    """Those of an SQL condition, with what orders or limits them behind it."""
    found = _rows(source, f"SELECT {', '.join(_COLUMNS)} FROM execution WHERE {condition}", *values)
    steps = _steps_of(source, [row[0] for row in found])
    return [_execution(row, steps.get(row[0], ())) for row in found]


def list_executions(database: Database, wanted: Wanted, limit: int) -> list[Execution]:
    """At most `limit`, the newest first."""
    conditions, values = ["1"], list[Any]()
    if wanted.machine:
        conditions.append("(machine = ?1 OR mac = ?1)")
        values.append(wanted.machine_key)
    if wanted.deployment is not None:
        conditions.append(f"deployment = ?{len(values) + 1}")
        values.append(wanted.deployment)
    if wanted.states:
        conditions.append(f"state IN ({', '.join(repr(state.value) for state in sorted(wanted.states))})")
    if wanted.before:
        conditions.append(f"number < (SELECT number FROM execution WHERE id = ?{len(values) + 1})")
        values.append(wanted.before)
    order = f"ORDER BY number DESC LIMIT ?{len(values) + 1}"
    return find_executions(database, f"{' AND '.join(conditions)} {order}", *values, limit)


def open_executions(source: Database | sqlite3.Connection) -> list[Execution]:
    """Those whose machines are expected to say more, the oldest first."""
    return find_executions(source, f"state IN ({_OPEN}) ORDER BY number")


def list_reports(database: Database, id: str, after: int, limit: int) -> list[KeptReport]:
    """In their order, behind a number."""
    query = "SELECT number, at, heard_at, step, state, message FROM report WHERE execution = ? AND number > ? ORDER BY number LIMIT ?"
    return [KeptReport(*row) for row in database.rows(query, id, after, limit)]


def forget_ended(connection: sqlite3.Connection, before: float) -> list[str]:
    """Drop what ended before a moment, but the last of each machine; the ids."""
    query = (
        f"DELETE FROM execution WHERE state NOT IN ({_OPEN}) AND ended_at < ? "
        "AND number NOT IN (SELECT max(number) FROM execution GROUP BY machine) RETURNING id"
    )
    return [id for (id,) in connection.execute(query, (before,)).fetchall()]


def _put_steps(connection: sqlite3.Connection, id: str, steps: Iterable[tuple[int, StepRun]]) -> None:
    rows = [(id, place, *(getattr(step, name) for name in _STEP_COLUMNS)) for place, step in steps]
    connection.executemany(_PUT_STEP, rows)


def _steps_of(source: Database | sqlite3.Connection, ids: Sequence[str]) -> dict[str, tuple[StepRun, ...]]:
    marks = ", ".join("?" * len(ids))
    query = (
        f"SELECT execution, {', '.join(_STEP_COLUMNS)} FROM step WHERE execution IN ({marks}) ORDER BY execution, place"
    )
    found: dict[str, list[StepRun]] = {}
    for id, *values in _rows(source, query, *ids):
        values[_STEP_STATE] = StepState(values[_STEP_STATE])
        found.setdefault(id, []).append(StepRun(*values))
    return {id: tuple(steps) for id, steps in found.items()}


def _rows(source: Database | sqlite3.Connection, query: str, *values: Any) -> list[Any]:
    return source.rows(query, *values) if isinstance(source, Database) else source.execute(query, values).fetchall()


def _values(execution: Execution) -> tuple[Any, ...]:
    return tuple(getattr(execution, name) for name in _COLUMNS)


def _execution(row: Sequence[Any], steps: tuple[StepRun, ...]) -> Execution:
    values: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    values |= {"state": ExecutionState(values["state"]), "is_silent": bool(values["is_silent"]), "steps": steps}
    return Execution(**values)
