# SPDX-License-Identifier: Apache-2.0
"""Nine states, each told by what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.distribution.contents import content

from dpd.distribution.jobs.job import Job, JobKind, JobState, Priority
from dpd.distribution.states import PackageState, package_status

D, U, R, X, V = (
    JobKind.DISTRIBUTE,
    JobKind.UPDATE,
    JobKind.REDISTRIBUTE,
    JobKind.REMOVE,
    JobKind.VALIDATE,
)
QUEUED, RUNNING, WAITING, DONE, FAILED = (
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.WAITING,
    JobState.DONE,
    JobState.FAILED,
)


def job(kind: JobKind, state: JobState, version: int | None = None, error: str = "", ended_at: float = 0.0) -> Job:
    return Job(1, kind, "A", version, Priority.NORMAL, state, 0.0, error=error, ended_at=ended_at, message="doing")


def state(versions: Sequence[int], jobs: Sequence[Job], damaged: Sequence[int] = ()) -> str | None:
    status = package_status("A", [content("A", version) for version in versions], jobs, damaged)
    return None if status is None else status.state.value


@pytest.mark.parametrize(
    ("versions", "jobs", "expected"),
    [
        ([], [], None),
        ([1], [], "installed"),
        ([1], [job(D, DONE, 1)], "installed"),
        ([], [job(D, DONE, 1)], None),  # the store is right, whatever the job said
        ([], [job(D, JobState.CANCELLED)], None),
        ([], [job(D, QUEUED)], "pending"),
        ([], [job(D, RUNNING)], "pending"),
        ([], [job(D, WAITING)], "pending"),
        ([], [job(D, WAITING, error="gone")], "retrying"),
        ([], [job(D, RUNNING, error="gone")], "retrying"),
        ([], [job(D, FAILED, error="gone")], "failed"),
        ([1], [job(U, RUNNING)], "updating"),
        ([1], [job(R, QUEUED)], "updating"),
        ([1], [job(U, WAITING, error="gone")], "retrying"),
        ([1], [job(U, FAILED, 2, error="gone")], "failed"),
        ([1, 2], [job(U, FAILED, 2, error="gone")], "installed"),  # it has come since
        ([2], [job(R, FAILED, 2, error="not mended")], "failed"),
        ([1], [job(X, QUEUED)], "removal-pending"),
        ([1], [job(X, RUNNING, error="busy")], "removal-retrying"),
        ([1], [job(X, FAILED, error="busy")], "removal-failed"),
        ([], [job(X, FAILED, error="busy")], None),
        ([1, 2], [job(X, QUEUED, 1)], "installed"),  # of one version among others
        ([1], [job(X, QUEUED, 1)], "removal-pending"),
        ([1], [job(V, RUNNING)], "monitoring"),
        ([1], [job(V, QUEUED)], "installed"),
        ([1], [job(U, QUEUED), job(V, RUNNING)], "updating"),
        ([], [job(D, FAILED, error="gone"), job(D, QUEUED)], "pending"),
    ],
)
def test_states(versions: list[int], jobs: list[Job], expected: str | None) -> None:
    assert state(versions, jobs) == expected


def test_damage_is_no_installed() -> None:
    assert state([1, 2], [], [2]) == "failed"
    assert state([1, 2], [job(R, RUNNING)], [2]) == "updating"
    status = package_status("A", [content("A", 2)], [], [2])
    assert status is not None
    assert status.why.startswith("damaged, or in a root that is missing: version 2; `dpd root list`")


def test_a_failure_is_old_news_once_it_was_published_here() -> None:
    failed = job(D, FAILED, error="gone", ended_at=100.0)
    before = package_status("A", [content("A", 1, 99.0)], [failed])
    after = package_status("A", [content("A", 1, 101.0)], [failed])
    assert (before and before.state, after and after.state) == (PackageState.FAILED, PackageState.INSTALLED)


def test_numbers_are_the_original_ones() -> None:
    assert [(state.number, state.value) for state in PackageState] == [
        (0, "installed"),
        (1, "pending"),
        (2, "retrying"),
        (3, "failed"),
        (4, "removal-pending"),
        (5, "removal-retrying"),
        (6, "removal-failed"),
        (7, "updating"),
        (8, "monitoring"),
    ]


def test_it_says_why() -> None:
    status = package_status("A", [], [replace(job(D, WAITING, error="dp1: refused"), next_try_at=9.0)])
    assert status is not None
    assert (status.why, status.job and status.job.next_try_at) == ("dp1: refused", 9.0)
