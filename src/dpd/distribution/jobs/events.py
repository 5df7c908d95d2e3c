# SPDX-License-Identifier: Apache-2.0
"""How distribution tells what happened: `job.*` for each change of a job, `content.*` for what it did to content,
`maintenance.*` and `source.*` for what surrounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from dpd.distribution.jobs.job import Job, JobState
from dpd.telemetry.events import EventLog, Value

Tell: TypeAlias = Callable[[str, Mapping[str, Value]], None]


def tell_to(log: EventLog) -> Tell:
    """Events go there. The names of fields must be none that a line of Python's log has itself, such as `name` or `message`."""

    def tell(event: str, fields: Mapping[str, Value]) -> None:
        log.note(event, **fields)

    return tell


def job_fields(job: Job) -> dict[str, Value]:
    """What every event of a job says of it."""
    fields: dict[str, Value] = {"job": job.id, "kind": job.kind.value, "state": job.state.value}
    if job.package_id:
        fields["package_id"] = job.package_id
    if job.source_version is not None:
        fields["source_version"] = job.source_version
    if job.attempts:
        fields["attempts"] = job.attempts
    if job.state is JobState.WAITING:
        fields["next_try_at"] = job.next_try_at
    if job.error:
        fields["error"] = job.error
    if why := job.stopping or job.message:
        fields["why"] = why
    return fields
