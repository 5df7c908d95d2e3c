# SPDX-License-Identifier: Apache-2.0
"""How jobs and orders read."""

from __future__ import annotations

import pytest

from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, Priority


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (JobOrder(JobKind.UPDATE, "LAB00001"), "update LAB00001"),
        (JobOrder(JobKind.REMOVE, "LAB00001", 3), "remove LAB00001 version 3"),
        (JobOrder(JobKind.GC), "gc"),
    ],
)
def test_orders_and_jobs_are_told_in_words(order: JobOrder, text: str) -> None:
    job = Job(4, order.kind, order.package_id, order.source_version, Priority.NORMAL, JobState.QUEUED, 0.0)
    assert str(order) == text
    assert str(job) == f"job 4 ({text})"
    assert job.is_open


def test_three_states_are_open() -> None:
    states = {state for state in JobState if Job(1, JobKind.GC, "", None, Priority.LOW, state, 0.0).is_open}
    assert states == {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}


def test_priorities_are_numbered_as_the_original_does() -> None:
    assert [(each.name, int(each)) for each in Priority] == [("HIGH", 1), ("NORMAL", 2), ("LOW", 3)]
