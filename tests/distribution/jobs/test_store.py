# SPDX-License-Identifier: Apache-2.0
"""The jobs on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.database import Database
from dpd.distribution.database import open_database
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, Priority
from dpd.distribution.jobs.store import KEPT_S, JobStore
from dpd.errors import JobNotFound

DISTRIBUTE, UPDATE, REMOVE, VALIDATE = JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REMOVE, JobKind.VALIDATE


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "distribution.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)


def ended(store: JobStore, order: JobOrder, state: JobState = JobState.DONE, at: float = 100.0) -> Job:
    job = replace(store.add(order, at).job, state=state, ended_at=at)
    store.write(job)
    return job


def test_what_was_written_is_read_again_in_every_field(store: JobStore) -> None:
    via = ("a" * 32, "b" * 32)
    order = JobOrder(DISTRIBUTE, "P1", 3, Priority.HIGH, {"b": 1, "a": "x", "c": True, "d": 0.5}, "alice", via)
    job = store.add(order, 12.5).job
    assert job == Job(
        1,
        DISTRIBUTE,
        "P1",
        3,
        Priority.HIGH,
        JobState.QUEUED,
        12.5,
        actor="alice",
        options=dict(order.options),
        via=via,
    )
    changed = replace(
        job,
        state=JobState.WAITING,
        started_at=13.0,
        attempts=2,
        next_try_at=99.5,
        done_bytes=1 << 40,
        total_bytes=1 << 41,
        message="waits",
        error="no",
        stopping="",
        priority=Priority.LOW,
    )
    store.write(changed)
    assert store.find(1) == changed
    assert store.open_jobs() == [changed]
    with pytest.raises(JobNotFound, match="no job 2; `dpd job list --all`"):
        store.find(2)


def test_numbers_are_never_given_twice(database: Database, store: JobStore) -> None:
    ended(store, JobOrder(UPDATE, "A"))
    with database.transaction() as connection:
        connection.execute("DELETE FROM job")
    assert store.add(JobOrder(UPDATE, "A"), 1.0).job.id == 2


def test_disk_itself_refuses_one_order_open_twice(database: Database, store: JobStore) -> None:
    store.add(JobOrder(UPDATE, "A"), 1.0)
    with pytest.raises(Exception, match="UNIQUE"), database.transaction() as connection:
        connection.execute(
            "INSERT INTO job SELECT NULL, kind, package_id, source_version, options, priority, 'waiting', created_at, "
            "started_at, ended_at, attempts, next_try_at, done_bytes, total_bytes, message, error, stopping, actor, via "
            "FROM job"
        )
    assert len(store.open_jobs()) == 1


def test_options_in_another_order_are_the_same_order(store: JobStore) -> None:
    first = store.add(JobOrder(JobKind.EXPORT, options={"a": 1, "b": "x"}), 1.0)
    again = store.add(JobOrder(JobKind.EXPORT, options={"b": "x", "a": 1}), 2.0)
    assert (first.is_new, again.is_new, again.job.id) == (True, False, 1)


def test_what_was_brought_is_wanted_until_it_is_taken_out(store: JobStore) -> None:
    ended(store, JobOrder(DISTRIBUTE, "A", 1))
    ended(store, JobOrder(UPDATE, "A", 2))
    ended(store, JobOrder(UPDATE, "B", 5))
    ended(store, JobOrder(UPDATE, "C", 1), JobState.FAILED)
    ended(store, JobOrder(VALIDATE, "D", 1))
    assert store.wanted() == [("A", 1), ("A", 2), ("B", 5)]
    store.add(JobOrder(REMOVE, "B"), 1.0)
    assert ("B", 5) in store.wanted()  # it is still here
    ended(store, JobOrder(REMOVE, "B"))
    ended(store, JobOrder(REMOVE, "A", 1))
    assert store.wanted() == [("A", 2)]
    store.unwant("A")
    assert store.wanted() == []
    assert store.packages() == ["A", "B", "C", "D"]


def test_pages_of_what_has_ended_come_newest_first(store: JobStore) -> None:
    for number in range(10):
        ended(store, JobOrder(UPDATE, f"P{number % 2}"), JobState.FAILED if number == 4 else JobState.DONE)
    store.add(JobOrder(UPDATE, "P0"), 1.0)
    assert [job.id for job in store.ended(None, 3)] == [10, 9, 8]
    assert [job.id for job in store.ended(8, 3)] == [7, 6, 5]
    assert [job.id for job in store.ended(None, 9, "P1")] == [10, 8, 6, 4, 2]
    assert [job.id for job in store.ended(None, 9, state=JobState.FAILED)] == [5]


def test_a_state_is_told_by_open_jobs_and_the_last_that_said_whether_it_is_here(store: JobStore) -> None:
    ended(store, JobOrder(DISTRIBUTE, "A"), JobState.FAILED)
    ended(store, JobOrder(UPDATE, "A"))
    ended(store, JobOrder(VALIDATE, "A"))
    store.add(JobOrder(VALIDATE, "A"), 1.0)
    store.add(JobOrder(REMOVE, "B"), 1.0)
    told = store.telling(["A", "B", "C"])
    assert {package: [job.id for job in jobs] for package, jobs in told.items()} == {"A": [2, 4], "B": [5]}


def test_what_ended_long_ago_is_forgotten_but_for_the_last_word_on_each_package(store: JobStore) -> None:
    for _ in range(3):
        ended(store, JobOrder(UPDATE, "A"), at=100.0)
    ended(store, JobOrder(VALIDATE, "A"), at=100.0)
    ended(store, JobOrder(JobKind.GC), at=100.0)
    ended(store, JobOrder(JobKind.GC), at=5000.0)
    store.add(JobOrder(UPDATE, "B"), 1.0)
    assert store.trim(100.0 + KEPT_S + 1) == 4
    assert [job.id for job in store.ended(None, 9)] == [6, 3]
    assert [job.id for job in store.open_jobs()] == [7]


def test_facts_stay(tmp_path: Path, store: JobStore) -> None:
    assert store.fact("maintenance") == ""
    store.note_fact("maintenance", "disk")
    store.note_fact("maintenance", "disks")
    with sqlite3.connect(tmp_path / "distribution.db") as other:
        assert other.execute("SELECT * FROM fact").fetchall() == [("maintenance", "disks")]
    other.close()


def test_the_first_that_was_ordered_for_another_dpd_keeps_for_whom(store: JobStore) -> None:
    """Not the last: each would add a hop, until none is left."""
    assert store.add(JobOrder(DISTRIBUTE, "A"), 1.0).job.via == ()
    assert store.add(JobOrder(DISTRIBUTE, "A", via=("a" * 32,)), 1.0).job.via == ("a" * 32,)
    assert store.add(JobOrder(DISTRIBUTE, "A", via=("b" * 32,)), 1.0).job.via == ("a" * 32,)
    assert store.add(JobOrder(DISTRIBUTE, "A"), 1.0).job.via == ("a" * 32,)


def test_jobs_of_an_older_dpd_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = open_database(path)
    JobStore(database).add(JobOrder(DISTRIBUTE, "A", 3, actor="alice"), 1.0)
    database.close()
    shell = sqlite3.connect(path)
    shell.executescript("ALTER TABLE job DROP COLUMN via; PRAGMA user_version = 1;")
    shell.close()
    database = open_database(path)
    (job,) = JobStore(database).open_jobs()
    assert (job.package_id, job.source_version, job.actor, job.via) == ("A", 3, "alice", ())
    database.close()
