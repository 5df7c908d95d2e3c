# SPDX-License-Identifier: Apache-2.0
"""What work tells of itself, and what it hears."""

from __future__ import annotations

import threading
import time

import pytest
from tests.distribution.job_room import Clock

from dpd.distribution.jobs.job import Job, JobKind, JobPostponed, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.errors import JobCancelled

JOB = Job(1, JobKind.UPDATE, "A", None, Priority.NORMAL, JobState.RUNNING, 0.0, done_bytes=5, total_bytes=10)


def test_rate_and_eta_are_of_the_last_seconds() -> None:
    clock = Clock()
    run = JobRun(JOB, monotonic=lambda: clock.mono)
    assert (run.seen().done_bytes, run.seen().rate_mbit_s, run.seen().eta_s) == (5, 0.0, None)
    for second in range(21):
        run.progress(second * 1_000_000, 100_000_000)
        clock.pass_by(1)
    clock.mono -= 1
    seen = run.seen()
    assert seen.rate_mbit_s == pytest.approx(8.0)
    assert seen.eta_s == pytest.approx(80.0)
    clock.pass_by(100)
    stalled = run.seen()
    assert stalled.rate_mbit_s < 1.0
    assert stalled.eta_s is not None
    assert stalled.eta_s > 800
    run.progress(0, 50)
    assert run.seen().rate_mbit_s == 0.0


def test_what_earlier_tries_brought_is_no_speed() -> None:
    clock = Clock()
    run = JobRun(JOB, monotonic=lambda: clock.mono)
    run.progress(90_000_000, 100_000_000)
    clock.pass_by(1)
    run.progress(91_000_000, 100_000_000)
    assert run.seen().rate_mbit_s == pytest.approx(8.0)


def test_an_interruption_is_raised_at_each_look_and_a_cancel_stays() -> None:
    run = JobRun(JOB)
    run.check()
    run.interrupt(JobPostponed("maintenance"))
    with pytest.raises(JobPostponed):
        run.check()
    run.interrupt(JobCancelled("by alice"))
    run.interrupt(JobPostponed("drain"))
    for _ in range(2):
        with pytest.raises(JobCancelled, match="by alice"):
            run.check()


def test_a_wait_ends_with_the_interruption() -> None:
    run = JobRun(JOB)
    timer = threading.Timer(0.05, lambda: run.interrupt(JobCancelled("now")))
    timer.start()
    began = time.monotonic()
    with pytest.raises(JobCancelled):
        run.wait(60)
    assert time.monotonic() - began < 30
    timer.join()
    JobRun(JOB).wait(0.0)


def test_the_gate_is_asked_at_each_look() -> None:
    def shut() -> None:
        raise JobPostponed("closed")

    with pytest.raises(JobPostponed, match="closed"):
        JobRun(JOB, gate=shut).check()


def test_what_is_said_shows() -> None:
    run = JobRun(JOB)
    run.say("asks dp1")
    run.resolve(7)
    assert run.seen().message == "asks dp1"
    assert run.seen().source_version is None  # what was ordered stays what tells it from other orders
    assert run.source_version == 7
