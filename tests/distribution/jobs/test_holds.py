# SPDX-License-Identifier: Apache-2.0
"""Maintenance and hours, as jobs feel them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.distribution.job_room import Clock, EightToTen

from dpd.content_settings import DistributionSettings
from dpd.distribution.database import open_database
from dpd.distribution.jobs.holds import Holds
from dpd.distribution.jobs.job import BRINGING, Job, JobKind, JobPostponed, JobState, Priority
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.store import JobStore
from dpd.distribution.pulling.schedule import Grid

DAY = 1_800_057_600.0  # Monday 2027-01-11 00:00 UTC is two days before; a day begins here


def job(kind: JobKind = JobKind.UPDATE, priority: Priority = Priority.NORMAL) -> Job:
    return Job(1, kind, "A", None, priority, JobState.QUEUED, 0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock(DAY - DAY % 86400)


@pytest.fixture
def holds(tmp_path: Path, clock: Clock) -> Holds:
    store = JobStore(open_database(tmp_path / "d.db"))
    return Holds(Maintenance(store), EightToTen(), clock=lambda: clock.wall, monotonic=lambda: clock.mono)


def test_hours_hold_what_brings_content_and_nothing_else(holds: Holds, clock: Clock) -> None:
    held = {kind for kind in JobKind if holds.why(job(kind))}
    assert held == BRINGING
    assert holds.opens_in_s(job()) == 8 * 3600
    assert holds.opens_in_s(job(priority=Priority.HIGH)) == 0
    assert holds.opens_in_s(job(JobKind.GC)) == 0
    clock.pass_by(3600)
    assert holds.opens_in_s(job()) == 7 * 3600
    clock.pass_by(7 * 3600)
    assert holds.why(job()) == ""
    clock.wall -= 86400  # set back by a day: eight o'clock then too
    assert holds.opens_in_s(job()) == 0
    clock.wall -= 3600
    assert holds.opens_in_s(job()) == 3600


def test_maintenance_has_no_known_end(holds: Holds) -> None:
    holds.maintenance.change("new disks")
    assert holds.why(job()) == "maintenance: new disks"
    assert holds.opens_in_s(job()) == math.inf
    assert holds.why(job(JobKind.VALIDATE)) == ""


def test_other_hours_hold_at_once(holds: Holds) -> None:
    assert holds.opens_in_s(job()) == 8 * 3600
    closed = Grid.of(DistributionSettings(schedule=("mon-sun 00-24 closed",)))
    holds.gate = closed
    assert holds.why(job(priority=Priority.HIGH)) == "the hours are closed for priority high"
    assert holds.opens_in_s(job()) == math.inf


def test_a_running_job_looks_once_a_second(holds: Holds, clock: Clock) -> None:
    clock.wall += 9 * 3600
    look = holds.watch(job)
    clock.wall += 3600
    look()
    clock.mono += 1
    with pytest.raises(JobPostponed, match="hours are closed"):
        look()
