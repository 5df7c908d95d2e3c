# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments of ordering, cancelling and working off, over and over on the same files."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.distribution import killed_jobs
from tests.distribution.killed_jobs import PACKAGES
from tests.prepared import Prepared

from dpd.content.library import Library
from dpd.distribution.database import open_database
from dpd.distribution.jobs.job import Job, JobKind, JobState
from dpd.distribution.jobs.store import JobStore

KILLS = int(os.environ.get("DPD_KILLS", "15"))  # 200 for the long run


def test_nothing_that_was_told_is_lost_or_taken_back(tmp_path: Path) -> None:
    rng = random.Random(7)
    said: list[list[str]] = []
    with Prepared(killed_jobs.__name__) as prepared:
        for number in range(KILLS):
            said += map(str.split, prepared.run(tmp_path, number, 60.0, kill_after_s=rng.random() * 0.4))
        said += map(str.split, prepared.run(tmp_path, KILLS, 0.0, kill_after_s=None))
    jobs = {job.id: job for job in JobStore(open_database(tmp_path / "d.db")).ended(None, 1 << 30)}
    ordered = {int(line[1]) for line in said if line[0] == "ordered"}
    assert ordered <= set(jobs), "an order that was answered is gone"
    assert len(ordered) > KILLS
    for _, id, state in (line for line in said if line[0] == "over"):
        assert jobs[int(id)].state == state, "an end that was told is another one now"
    assert {job.state for job in jobs.values()} <= {JobState.DONE, JobState.CANCELLED}
    check_last_words(tmp_path, list(jobs.values()))


def check_last_words(folder: Path, jobs: list[Job]) -> None:
    """Each package is here or not as the last job that was done says, and what is wanted is here, and the other way round;
    but for the work of a job that was cancelled."""
    with Library(folder / "library", slab_bytes=1 << 20) as library:
        here = {content.package_id for content in library.contents()}
        assert all(library.damage(content) == [] for content in library.contents())
        found = library.gc(
            delete=True
        )  # a kill may leave a manifest that was written before its row, or is left behind it
        assert (found.missing, found.garbage_blobs) == ((), 0)
        assert library.gc().is_clean
    store = JobStore(open_database(folder / "d.db"))
    for package in PACKAGES:
        done = [job for job in jobs if job.package_id == package and job.state is JobState.DONE]
        last = max(done, key=ended_at, default=None)
        if last is None or was_begun_and_cancelled_since(last, jobs):
            continue
        assert (package in here) == (last.kind is not JobKind.REMOVE)
    wanted = {package for package, _ in store.wanted()}
    assert wanted <= here
    for package in here - wanted:  # killed between the work and its end, and taken back before its next try
        ended = [job for job in jobs if job.package_id == package]
        assert max(ended, key=ended_at).state is JobState.CANCELLED


def was_begun_and_cancelled_since(last: Job, jobs: list[Job]) -> bool:
    """Another job did its work, or a part of it, was killed before its end, and was cancelled before its next try."""
    return any(
        job.package_id == last.package_id
        and job.state is JobState.CANCELLED
        and job.attempts > 0
        and job.ended_at >= last.ended_at
        for job in jobs
    )


def ended_at(job: Job) -> float:
    return job.ended_at
