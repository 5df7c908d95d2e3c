# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments of ordering, cancelling and working off, over and over on the same files."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tests.distribution.killed_jobs import PACKAGES

from dpd.content.library import Library
from dpd.distribution.database import open_database
from dpd.distribution.jobs.job import BRINGING, Job, JobKind, JobState
from dpd.distribution.jobs.store import JobStore

ROUNDS = 20
ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, seed: int, seconds: float, kill_after_s: float | None) -> list[list[str]]:
    """What the process has said, up to its kill or its own end."""
    command = [sys.executable, "-m", "tests.distribution.killed_jobs", str(folder), str(seed), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "it has not begun"
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.kill()
        said = [first, *process.stdout]
    assert kill_after_s is not None or process.returncode == 0
    return [line.split() for line in said if line.endswith("\n")]


def test_nothing_that_was_told_is_lost_or_taken_back(tmp_path: Path) -> None:
    rng = random.Random(7)
    said: list[list[str]] = []
    for round in range(ROUNDS):
        said += run(tmp_path, round, 60.0, rng.random() * 0.4)
    said += run(tmp_path, 0, 0.0, None)
    jobs = {job.id: job for job in JobStore(open_database(tmp_path / "d.db")).ended(None, 1 << 30)}
    ordered = {int(line[1]) for line in said if line[0] == "ordered"}
    assert ordered <= set(jobs), "an order that was answered is gone"
    assert len(ordered) > ROUNDS
    for _, id, state in (line for line in said if line[0] == "ended"):
        assert jobs[int(id)].state == state, "an end that was told is another one now"
    assert {job.state for job in jobs.values()} <= {JobState.DONE, JobState.CANCELLED}
    check_last_words(tmp_path, list(jobs.values()))


def check_last_words(folder: Path, jobs: list[Job]) -> None:
    """Each package is here or not as the last job that was done says; what is wanted is here, and the other way round
    but for the work of a job that was cancelled."""
    with Library(folder / "library", slab_bytes=1 << 20) as library:
        here = {content.package_id for content in library.contents()}
        assert all(library.damage(content) == [] for content in library.contents())
        assert library.gc().is_clean
    store = JobStore(open_database(folder / "d.db"))
    for package in PACKAGES:
        done = [job for job in jobs if job.package_id == package and job.state is JobState.DONE]
        assert package in here or not done or max(done, key=ended_at).kind is JobKind.REMOVE
        if package in here and done:
            assert max(done, key=ended_at).kind in BRINGING
    wanted = {package for package, _ in store.wanted()}
    assert wanted <= here
    for package in here - wanted:  # killed between the work and its end, and taken back before its next try
        ended = [job for job in jobs if job.package_id == package]
        assert max(ended, key=ended_at).state is JobState.CANCELLED


def ended_at(job: Job) -> float:
    return job.ended_at
