# SPDX-License-Identifier: Apache-2.0
"""Distribution as a whole, with its own threads, on real files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.distribution.contents import OtherPlace
from tests.distribution.job_room import Told

from dpd.content.library import Library
from dpd.content_settings import DistributionSettings, LibrarySettings
from dpd.distribution.database import open_database
from dpd.distribution.distribution import Distribution, Means
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState
from dpd.settings import Settings

WAIT_S = 20.0


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        yield library


@pytest.fixture
def place(library: Library, tmp_path: Path) -> OtherPlace:
    place = OtherPlace(library, tmp_path)
    place.has = {"A": {1: b"one", 2: b"two"}}
    return place


class Ended(Told):
    """Tells when a job has."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = threading.Semaphore(0)

    def __call__(self, event: str, fields: object) -> None:
        super().__call__(event, fields)  # type: ignore[arg-type]
        if event in ("job.done", "job.failed", "job.cancelled"):
            self.jobs.release()


@pytest.fixture
def opened(library: Library, place: OtherPlace, tmp_path: Path) -> Iterator[Callable[[], tuple[Distribution, Ended]]]:
    made: list[Distribution] = []

    def open_one(settings: Settings | None = None) -> tuple[Distribution, Ended]:
        for each in made:
            each.stop()
        told = Ended()
        database = open_database(tmp_path / "d.db")
        means = Means(place, place, {JobKind.VALIDATE: lambda run: None}, told)
        made.append(Distribution(settings or Settings(), library, database, means))
        made[-1].start()
        return made[-1], told

    yield open_one
    for each in made:
        each.stop()


def done(distribution: Distribution, told: Ended, job: Job) -> Job:
    assert told.jobs.acquire(timeout=WAIT_S)
    return distribution.desk.find(job.id)


Open = Callable[..., tuple[Distribution, Ended]]


def test_a_package_comes_is_updated_and_goes(opened: Open, library: Library) -> None:
    distribution, told = opened(Settings(library=LibrarySettings(keep_versions=1)))
    for kind, state, versions in (
        (JobKind.DISTRIBUTE, "installed", (1,)),
        (JobKind.UPDATE, "installed", (2,)),
        (JobKind.REDISTRIBUTE, "installed", (2,)),
        (JobKind.VALIDATE, "installed", (2,)),
    ):
        version = 1 if kind is JobKind.DISTRIBUTE else None
        job = done(distribution, told, distribution.desk.submit(JobOrder(kind, "A", version)))
        assert (job.state, job.error) == (JobState.DONE, "")
        status = distribution.states.status("A")
        assert (status.state.value, status.versions) == (state, versions)
    done(distribution, told, distribution.desk.submit(JobOrder(JobKind.REMOVE, "A")))
    assert library.contents() == []
    distribution.stop()
    changes = [fields["state"] for name, fields in told.events if name == "content.state"]
    assert changes[0] == "pending"
    assert changes[-1] == "absent"
    assert {"installed", "updating"} <= set(changes)


def test_what_the_store_lacks_is_told_and_fetched_again(opened: Open, library: Library) -> None:
    distribution, told = opened()
    done(distribution, told, distribution.desk.submit(JobOrder(JobKind.DISTRIBUTE, "A")))
    distribution.stop()
    library.remove("A", 2)  # as if the disk had been put back to an older state
    distribution, told = opened()
    assert done(distribution, told, distribution.desk.find(2)).state is JobState.DONE
    assert "content.missing" in told.names()
    assert library.find("A").source_version == 2
    distribution, told = opened()
    assert "content.missing" not in told.names()


def test_what_was_taken_out_on_purpose_stays_out(opened: Open, library: Library) -> None:
    distribution, told = opened()
    done(distribution, told, distribution.desk.submit(JobOrder(JobKind.DISTRIBUTE, "A", 1)))
    done(distribution, told, distribution.desk.submit(JobOrder(JobKind.DISTRIBUTE, "A", 2)))
    distribution.expect_removal("A", 2)
    library.remove("A", 2)
    distribution.noticed("A")
    done(distribution, told, distribution.desk.submit(JobOrder(JobKind.REMOVE, "A")))
    distribution, told = opened()
    assert told.names("content.missing") == []
    assert distribution.desk.open_jobs() == []


def test_other_settings_hold_at_once(opened: Open) -> None:
    closed = Settings(distribution=DistributionSettings(schedule=("mon-sun 00-24 closed",)))
    distribution, told = opened(closed)
    job = distribution.desk.submit(JobOrder(JobKind.DISTRIBUTE, "A"))
    assert distribution.desk.find(job.id).state is JobState.WAITING
    distribution.apply(Settings())
    assert done(distribution, told, job).state is JobState.DONE


def test_stop_comes_before_start_too(library: Library, place: OtherPlace, tmp_path: Path) -> None:
    distribution = Distribution(Settings(), library, open_database(tmp_path / "d.db"), Means(place, place, {}, Told()))
    distribution.stop()
    distribution.stop()
