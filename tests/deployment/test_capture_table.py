# SPDX-License-Identifier: Apache-2.0
"""Captures as rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dpd.deployment.capture_table import Capture, CaptureState, find_captures, forget_captures, put_capture
from dpd.deployment.database import open_database
from dpd.errors import DeploymentError

FULL = Capture("c1", "e1", "PC-1", "CAP00001", 1 << 40, CaptureState.FAILED, 1 << 39, 7, "no WIM", 10.5, 20.5)


def test_what_was_written_is_read_again_in_every_field(tmp_path: Path) -> None:
    database = open_database(tmp_path / "deployment.db")
    put_capture(database, replace(FULL, state=CaptureState.OPEN, kept_bytes=0))
    put_capture(database, FULL)
    assert find_captures(database, "id = ?", "c1") == [FULL]
    database.close()


def test_one_image_of_an_execution_is_open_once(tmp_path: Path) -> None:
    database = open_database(tmp_path / "deployment.db")
    put_capture(database, replace(FULL, state=CaptureState.OPEN))
    with pytest.raises(DeploymentError, match="UNIQUE"):
        put_capture(database, replace(FULL, id="c2", state=CaptureState.OPEN))
    put_capture(database, replace(FULL, id="c3"))
    database.close()


def test_those_that_ended_long_ago_are_forgotten(tmp_path: Path) -> None:
    database = open_database(tmp_path / "deployment.db")
    put_capture(database, FULL)
    put_capture(database, replace(FULL, id="c2", state=CaptureState.OPEN))
    put_capture(database, replace(FULL, id="c3", changed_at=30.5))
    forget_captures(database, 25.0)
    assert [each.id for each in find_captures(database, "1 ORDER BY number")] == ["c2", "c3"]
    database.close()
