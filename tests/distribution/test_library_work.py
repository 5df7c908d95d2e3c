# SPDX-License-Identifier: Apache-2.0
"""Draining and collecting as jobs, on a real library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.job_room import Desk, Told

from dpd.content.library import Library
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState
from dpd.distribution.library_work import LibraryWork


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        yield library


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def made(library: Library, told: Told, tmp_path: Path) -> Desk:
    return Desk(tmp_path / "d.db", LibraryWork(library, told).works())


def do(made: Desk, kind: JobKind, **options: int | bool) -> Job:
    job = made.desk.submit(JobOrder(kind, options=options))
    made.work_off()
    return made.desk.find(job.id)


def test_a_root_is_emptied_and_can_be_removed(library: Library, made: Desk, told: Told, tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"file{number}"
        path.write_bytes(b"%d" % number * 1000)
        library.publish(path, f"P{number}")
    library.add_root(tmp_path / "second", 0)
    job = do(made, JobKind.DRAIN, root=0)
    assert (job.state, job.message) == (
        JobState.DONE,
        "root 0: 3 blobs with 3000 bytes moved; `dpd root remove 0` ends it",
    )
    assert job.done_bytes == job.total_bytes == 3000
    assert [(root.id, root.blobs) for root in library.roots()] == [(0, 0), (1, 3)]
    assert told.events == [("root.drained", {"root": 0, "blobs": 3, "size_bytes": 3000, "damaged": 0, "job": 1})]
    for number in range(3):
        assert library.damage(library.find(f"P{number}")) == []


@pytest.mark.parametrize("options", [{}, {"root": True}])
def test_a_drain_of_nothing_fails_in_words(made: Desk, options: dict[str, bool]) -> None:
    job = do(made, JobKind.DRAIN, **options)
    assert (job.state, job.error) == (
        JobState.FAILED,
        "drain: expected the option root, the number that `dpd root list` shows",
    )


def test_a_drain_of_a_root_that_is_not_there_fails(made: Desk) -> None:
    job = do(made, JobKind.DRAIN, root=7)
    assert job.state is JobState.FAILED
    assert "7" in job.error


def test_a_cancelled_drain_stops(library: Library, made: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    library.publish(tmp_path / "file", "P")
    library.add_root(tmp_path / "second", 0)
    made.desk.submit(JobOrder(JobKind.DRAIN, options={"root": 0}))
    run = made.desk.claim()
    assert run is not None
    made.desk.cancel(run.job.id)
    assert made.desk.perform(run).state is JobState.CANCELLED
    assert [root.blobs for root in library.roots()] == [1, 0]


def test_garbage_is_told_and_removed_only_where_that_is_asked(library: Library, made: Desk, tmp_path: Path) -> None:
    orphan = tmp_path / "library" / "blobs" / "ab" / ("ab" + "0" * 62)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x" * 500)
    looked = do(made, JobKind.GC)
    assert looked.state is JobState.DONE
    assert looked.message.endswith("1 files of nothing: 500 bytes could be freed")
    assert orphan.exists()
    assert do(made, JobKind.GC, delete=True).message.endswith("500 bytes freed")
    assert not orphan.exists()
