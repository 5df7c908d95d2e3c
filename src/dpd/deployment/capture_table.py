# SPDX-License-Identifier: Apache-2.0
"""Captures as rows."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Any

from dpd.database import Database


class CaptureState(StrEnum):
    """Where a capture is."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Capture:
    """An image on its way in, or that came. `kept_bytes` are on disk for certain; `source_version` is 0 until it is published."""

    id: str
    execution: str
    machine: str
    package_id: str
    size_bytes: int
    state: CaptureState = CaptureState.OPEN
    kept_bytes: int = 0
    source_version: int = 0
    error: str = ""
    started_at: float = 0.0
    changed_at: float = 0.0

    def __str__(self) -> str:
        return f"capture {self.id} of {self.machine} for {self.package_id}"


_COLUMNS = ", ".join(each.name for each in fields(Capture))
_MARKS = ", ".join("?" * len(fields(Capture)))


def put_capture(database: Database, capture: Capture) -> None:
    """A new one, or what has changed of it."""
    update = ", ".join(f"{each.name} = excluded.{each.name}" for each in fields(Capture))
    with database.transaction() as connection:
        connection.execute(
            f"INSERT INTO capture ({_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT (id) DO UPDATE SET {update}",
            astuple(capture),
        )


def find_captures(database: Database, condition: str, *values: Any) -> list[Capture]:
    """Those of an SQL condition, with what orders or limits them behind it."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM capture WHERE {condition}", *values)
    names = [each.name for each in fields(Capture)]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [Capture(**each | {"state": CaptureState(each["state"])}) for each in found]


def forget_captures(database: Database, before: float) -> None:
    """Drop those that ended before a moment."""
    with database.transaction() as connection:
        connection.execute("DELETE FROM capture WHERE state != 'open' AND changed_at < ?", (before,))
