# SPDX-License-Identifier: Apache-2.0
"""Deployments under way as a daemon opens and ends them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.deployment.executions import begin, said

from dpd.content.library import Library
from dpd.deployment.execution import ExecutionState, StepName
from dpd.deployment.execution_book import RUN_TIME_S, SILENT_S
from dpd.deployment.opening import OpenDeployments
from dpd.errors import DeploymentError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import parse_settings
from dpd.telemetry.events import EventLog

PATIENCE_S = 60.0
SETTINGS = parse_settings("", "dpd.toml")


class Clock:
    """Shows what it is set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_machine_that_falls_silent_is_noticed_without_anybody_asking(tmp_path: Path) -> None:
    events, clock = EventLog(), Clock()
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        deployments = OpenDeployments(SETTINGS, library, tmp_path, events, look_s=0.01, clock=clock)
        id = begin(deployments.book)
        deployments.start()
        changed = threading.Event()
        deployments.book.at_change = changed.set
        clock.now += SILENT_S + 1.0
        assert changed.wait(PATIENCE_S)
        assert deployments.book.find(id).is_silent
        assert [each.event for each in events.after(0)] == ["deployment.started", "deployment.silent"]
        deployments.stop()
        deployments.stop()


def test_what_is_over_goes_with_its_log(tmp_path: Path) -> None:
    clock = Clock()
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        deployments = OpenDeployments(SETTINGS, library, tmp_path, EventLog(), clock=clock)
        first = begin(deployments.book)
        deployments.logs.keep(first, b"log")
        begin(deployments.book, at=2000.0)
        clock.now += RUN_TIME_S + 100 * 86400.0
        deployments.look_over()
        with pytest.raises(DeploymentError, match="left no log"):
            deployments.logs.read(first)
        (kept,) = deployments.book.list()
        assert kept.state is ExecutionState.LOST
        deployments.stop()


def test_a_reload_changes_how_much_may_come_in(tmp_path: Path) -> None:
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        deployments = OpenDeployments(SETTINGS, library, tmp_path, EventLog())
        steps = [StepName("1", "Capture", "capture_image")]
        id = deployments.book.begin("pc-1", "PC-1", "52:54:00:00:00:01", 7, "reference", 1, steps, 1000.0)
        deployments.captures.begin(id, "CAP00001", 100)
        deployments.apply(parse_settings("[deployment]\ncapture_quota_gib = 0\n", "dpd.toml"))
        with pytest.raises(DeploymentError, match="capture_quota_gib"):
            deployments.captures.begin(id, "CAP00002", 100)
        deployments.stop()


def test_a_file_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "deployment-logs").write_bytes(b"")
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        with pytest.raises(DeploymentError, match="cannot keep logs"):
            OpenDeployments(SETTINGS, library, tmp_path, EventLog())
        (tmp_path / "deployment-logs").unlink()
        deployments = OpenDeployments(SETTINGS, library, tmp_path, EventLog())
        id = begin(deployments.book)
        assert deployments.book.take_reports(id, [said(1, "1", "started")], 1010.0).next == 2
        deployments.stop()
