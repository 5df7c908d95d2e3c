# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job."""

from __future__ import annotations

import pytest

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.job import Job, JobKind, JobState, Priority
from dpd.distribution.jobs.outcome import after_restart, outcome, retry_delay_s
from dpd.errors import SourceUnavailable, Unavailable

SETTINGS = DistributionSettings(attempts=5, retry_interval_s=60.0)


def running(attempts: int = 1, stopping: str = "") -> Job:
    return Job(
        1, JobKind.UPDATE, "A", None, Priority.NORMAL, JobState.RUNNING, 0.0, attempts=attempts, stopping=stopping
    )


def test_delays_double_to_an_hour() -> None:
    assert [retry_delay_s(n, SETTINGS) for n in (1, 2, 3, 6, 7, 8, 10_000)] == [60, 120, 240, 1920, 3600, 3600, 3600]
    assert retry_delay_s(1, DistributionSettings(retry_interval_s=86400.0)) == 3600


@pytest.mark.parametrize("attempts", range(1, 8))
def test_it_is_tried_as_often_as_the_settings_say(attempts: int) -> None:
    job = outcome(running(attempts), SourceUnavailable("x"), SETTINGS, 1000.0)
    assert job.state is (JobState.WAITING if attempts < 5 else JobState.FAILED)
    assert (job.next_try_at > 1000.0) is (attempts < 5)
    assert (job.ended_at == 1000.0) is (attempts >= 5)


def test_what_ends_has_no_speed_and_no_next_try() -> None:
    job = outcome(running(), None, SETTINGS, 5.0)
    assert (job.state, job.rate_mbit_s, job.eta_s, job.next_try_at, job.error) == (JobState.DONE, 0.0, None, 0.0, "")


def test_a_restart_touches_only_who_ran() -> None:
    for state in (JobState.QUEUED, JobState.WAITING):
        job = Job(1, JobKind.UPDATE, "A", None, Priority.NORMAL, state, 0.0)
        assert after_restart(job, SETTINGS, 9.0) is job
    assert after_restart(running(4), SETTINGS, 9.0).state is JobState.QUEUED
    assert after_restart(running(5), SETTINGS, 9.0).state is JobState.FAILED
    stopped = after_restart(running(5, "cancelled by alice"), SETTINGS, 9.0)
    assert (stopped.state, stopped.message) == (JobState.CANCELLED, "cancelled by alice")


def test_what_is_unavailable_now_may_be_there_later() -> None:
    assert outcome(running(), Unavailable("busy"), SETTINGS, 1.0).state is JobState.WAITING
