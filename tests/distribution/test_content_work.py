# SPDX-License-Identifier: Apache-2.0
"""Distribute, update, redistribute and remove on a real library; begun anew at any point they come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.distribution.contents import OtherPlace
from tests.distribution.job_room import Desk

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content_settings import LibrarySettings
from dpd.distribution.content_work import ContentWork, versions_of
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.errors import JobCancelled, SourceUnavailable

D, U, R, X = JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REDISTRIBUTE, JobKind.REMOVE


@dataclass(slots=True)
class Bench:
    library: Library
    place: OtherPlace
    made: Desk
    work: ContentWork
    removed: list[Content]

    def do(self, kind: JobKind, package_id: str = "A", version: int | None = None) -> Job:
        job = self.made.desk.submit(JobOrder(kind, package_id, version))
        self.made.work_off()
        return self.made.desk.find(job.id)

    def versions(self, package_id: str = "A") -> list[int]:
        return [content.source_version for content in versions_of(self.library, package_id)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        place = OtherPlace(library, tmp_path)
        place.has = {"A": {1: b"one", 2: b"two", 3: b"three"}, "B": {7: b"seven"}}
        made = Desk(tmp_path / "d.db")
        removed: list[Content] = []
        work = ContentWork(library, place, place, made.store, LibrarySettings(), tell=made.told, removed=removed.append)
        made.work = work.works()
        made.restart()
        work._store = made.store  # the desk was opened anew
        yield Bench(library, place, made, work, removed)


def test_distribute_brings_the_newest_or_the_one_that_is_asked_for(bench: Bench) -> None:
    job = bench.do(D)
    assert (job.state, job.source_version, job.message) == (JobState.DONE, 3, "version 3 has come")
    assert bench.do(D, version=1).message == "version 1 has come"
    assert bench.do(D, version=1).message == "version 1 was here already"
    assert bench.versions() == [1, 3]
    assert bench.made.store.wanted() == [("A", 1), ("A", 3)]
    assert bench.made.told.names("content") == ["content.arrived"] * 2


def test_update_leaves_as_many_versions_as_the_settings_keep(bench: Bench) -> None:
    for version in (1, 2):
        bench.do(D, version=version)
    bench.work.settings = LibrarySettings(keep_versions=2)
    job = bench.do(U)
    assert job.message == "version 3 has come, 1 taken out"
    assert bench.versions() == [2, 3]
    assert bench.made.store.wanted() == [("A", 2), ("A", 3)]
    assert [str(content) for content in bench.removed] == ["A version 1"]
    bench.work.settings = LibrarySettings(keep_versions=1)
    assert bench.do(U).message == "version 3 was here already, 2 taken out"
    assert bench.versions() == [3]


def test_an_update_to_an_older_version_takes_out_nothing_newer(bench: Bench) -> None:
    for version in (1, 3):
        bench.do(D, version=version)
    bench.do(U, version=2)
    assert bench.versions() == [2, 3]


def test_redistribute_compares_what_is_here(bench: Bench) -> None:
    bench.do(D)
    assert bench.do(R).message == "version 3 is as it should be"
    bench.place.has["A"][4] = b"four"  # which is for an update to bring
    assert bench.do(R).message == "version 3 is as it should be"
    del bench.place.has["A"][4]
    bench.library.remove("A", 3)
    assert bench.do(R).message == "version 3 has come"


def test_remove_takes_out_one_version_or_all(bench: Bench) -> None:
    for version in (1, 2, 3):
        bench.do(D, version=version)
    bench.do(D, "B")
    assert bench.do(X, version=2).message == "version 2 taken out"
    assert bench.versions() == [1, 3]
    assert bench.do(X).message == "version 1, 3 taken out"
    assert bench.do(X).message == "was not here"
    assert (bench.versions(), bench.versions("B")) == ([], [7])
    assert bench.made.store.wanted() == [("B", 7)]
    assert len(bench.removed) == 3


def test_a_kill_between_the_arrival_and_the_jobs_end_brings_nothing_twice(bench: Bench) -> None:
    bench.made.desk.submit(JobOrder(D, "A"))
    run = bench.made.desk.claim()
    assert run is not None
    bench.work.distribute(run)  # and dpd is killed before the desk hears of it
    bench.made.restart()
    bench.work._store = bench.made.store
    assert bench.made.work_off() == 1
    assert bench.made.desk.find(1).message == "version 3 was here already"
    assert bench.made.store.wanted() == [("A", 3)]


def test_what_no_source_has_waits_and_says_so(bench: Bench) -> None:
    job = bench.do(D, "Z")
    assert (job.state, job.error) == (JobState.WAITING, "Z: no source has it")


def test_a_cancelled_removal_leaves_what_it_has_not_taken_out(bench: Bench) -> None:
    for version in (1, 2, 3):
        bench.do(D, version=version)
    run = JobRun(Job(99, X, "A", None, Priority.NORMAL, JobState.RUNNING, 0.0))
    run.interrupt(JobCancelled("no"))
    with pytest.raises(JobCancelled):
        bench.work.remove(run)
    assert bench.versions() == [1, 2, 3]


def test_an_update_whose_source_is_away_takes_nothing_out(bench: Bench) -> None:
    bench.do(D, version=1)
    bench.place.errors = [SourceUnavailable("away")]
    assert bench.do(U).state is JobState.WAITING
    assert bench.versions() == [1]


def test_versions_of_a_package_with_many(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for version in range(1, 46):
        file.write_bytes(b"%d" % version)
        bench.library.publish(file, "M", version)
    assert bench.versions("M") == list(range(1, 46))
    assert bench.versions("L") == []
