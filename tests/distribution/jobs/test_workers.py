# SPDX-License-Identifier: Apache-2.0
"""Threads at the desk: they wake for news and for what is due, outlive a full disk, and end when told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.distribution.job_room import Told

from dpd.content_settings import DistributionSettings
from dpd.distribution.database import open_database
from dpd.distribution.jobs import workers as workers_module
from dpd.distribution.jobs.desk import JobDesk
from dpd.distribution.jobs.holds import Holds
from dpd.distribution.jobs.job import JobKind, JobOrder, JobPostponed, JobState
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.run import JobRun, Work
from dpd.distribution.jobs.store import JobStore
from dpd.distribution.jobs.workers import Workers
from dpd.errors import JobError, LibraryFull

UPDATE = JobKind.UPDATE


def desk_with(path: Path, work: Work) -> JobDesk:
    """On the clocks of this machine."""
    store = JobStore(open_database(path))
    holds = Holds(Maintenance(store))
    return JobDesk(store, {UPDATE: work}, DistributionSettings(), tell=Told(), holds=holds)


def test_threads_work_off_what_is_ordered_and_end_when_told(tmp_path: Path) -> None:
    done = threading.Semaphore(0)
    desk = desk_with(tmp_path / "d.db", lambda run: done.release())
    workers = Workers(desk, 3)
    workers.start()
    for number in range(50):
        desk.submit(JobOrder(UPDATE, f"P{number}"))
    for _ in range(50):
        assert done.acquire(timeout=10)
    desk.drain()
    assert workers.join(10)
    assert [job.state for job in desk.ended(None, 100)] == [JobState.DONE] * 50


def test_a_job_that_waits_is_begun_when_it_is_due_and_not_at_the_next_look(tmp_path: Path) -> None:
    done = threading.Event()
    errors = [JobPostponed("not yet", 0.1)]

    def work(run: JobRun) -> None:
        if errors:
            raise errors.pop()
        done.set()

    desk = desk_with(tmp_path / "d.db", work)
    workers = Workers(desk, 1)
    workers.start()
    desk.submit(JobOrder(UPDATE, "P"))
    assert done.wait(workers_module.LOOK_INTERVAL_S / 6)
    desk.drain()
    assert workers.join(10)


def test_a_drain_wakes_who_waits_in_a_job(tmp_path: Path) -> None:
    begun = threading.Event()

    def work(run: JobRun) -> None:
        begun.set()
        run.wait(3600)

    desk = desk_with(tmp_path / "d.db", work)
    workers = Workers(desk, 2)
    workers.start()
    desk.submit(JobOrder(UPDATE, "P"))
    assert begun.wait(10)
    desk.drain()
    assert workers.join(10)
    assert desk.running == 0
    assert desk.open_jobs()[0].message == "goes on when dpd starts again"


def test_a_listener_that_has_closed_ends_no_thread_and_no_job(tmp_path: Path) -> None:
    done = threading.Semaphore(0)

    def closed(job: object) -> None:
        raise JobError("the library has been closed")

    store = JobStore(open_database(tmp_path / "d.db"))
    work = {UPDATE: lambda run: done.release()}
    holds = Holds(Maintenance(store))
    desk = JobDesk(store, work, DistributionSettings(), tell=Told(), holds=holds, changed=closed)
    workers = Workers(desk, 1)
    workers.start()
    for number in range(3):
        desk.submit(JobOrder(UPDATE, f"P{number}"))
        assert done.acquire(timeout=10)
    desk.drain()
    assert workers.join(10)


def test_a_fault_at_the_desk_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_PAUSE_S", 0.01)
    done = threading.Event()
    desk = desk_with(tmp_path / "d.db", lambda run: done.set())
    claim, faults = desk.claim, [RuntimeError("a fault")]

    def faulty() -> JobRun | None:
        if faults:
            raise faults.pop()
        return claim()

    monkeypatch.setattr(desk, "claim", faulty)
    workers = Workers(desk, 1)
    workers.start()
    desk.submit(JobOrder(UPDATE, "P"))
    assert done.wait(10)
    desk.drain()
    assert workers.join(10)


def test_a_disk_that_refuses_for_a_while_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_PAUSE_S", 0.01)
    done, refused = threading.Event(), threading.Event()
    desk = desk_with(tmp_path / "d.db", lambda run: done.set())
    claim, refusals = desk.claim, [LibraryFull("full"), LibraryFull("full")]

    def sometimes() -> JobRun | None:
        if refusals:
            refused.set()
            raise refusals.pop()
        return claim()

    monkeypatch.setattr(desk, "claim", sometimes)
    desk.submit(JobOrder(UPDATE, "P"))
    workers = Workers(desk, 1)
    workers.start()
    assert refused.wait(10)
    assert done.wait(10)
    desk.drain()
    assert workers.join(10)
