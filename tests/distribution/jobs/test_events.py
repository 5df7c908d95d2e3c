# SPDX-License-Identifier: Apache-2.0
"""What distribution tells."""

from __future__ import annotations

import logging
from dataclasses import fields

from dpd.distribution.jobs.events import job_fields, tell_to
from dpd.distribution.jobs.job import Job, JobKind, JobState, Priority
from dpd.telemetry.events import EventLog

JOB = Job(7, JobKind.UPDATE, "A", 3, Priority.NORMAL, JobState.WAITING, 1.0, attempts=2, next_try_at=9.0, error="no")


def test_events_go_to_the_log_of_the_daemon() -> None:
    log = EventLog(clock=lambda: 5.0)
    tell_to(log)("job.waiting", job_fields(JOB))
    (event,) = log.after(0)
    assert (event.event, event.at) == ("job.waiting", 5.0)
    assert event.fields == {
        "job": 7,
        "kind": "update",
        "state": "waiting",
        "package_id": "A",
        "source_version": 3,
        "attempts": 2,
        "next_try_at": 9.0,
        "error": "no",
    }


def test_no_field_is_one_of_a_log_record() -> None:
    """Python's logging refuses those with a KeyError."""
    own = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    assert own.isdisjoint(job_fields(JOB))
    assert "message" in {each.name for each in fields(Job)}  # which is why it is called `why` there
