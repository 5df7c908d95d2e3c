# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job when a try of it has ended: done, cancelled, failed, or to be tried again, and when."""

from __future__ import annotations

import logging
from dataclasses import replace

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.job import Job, JobPostponed, JobState
from dpd.errors import DpdError, JobCancelled, LibraryFull, SourceUnavailable, Unavailable

log = logging.getLogger(__name__)

MAX_RETRY_DELAY_S = 3600.0
PASSING = (SourceUnavailable, LibraryFull, Unavailable)  # a later try may find them gone


def outcome(job: Job, error: BaseException | None, settings: DistributionSettings, now: float) -> Job:
    """The job after this try. `job` is as the run has seen it, `error` what the work raised (None nothing)."""
    if error is None:
        message = "was done before it could be cancelled" if job.stopping else job.message
        return _ended(job, JobState.DONE, now, message=message, error="")
    if job.stopping or isinstance(error, JobCancelled):
        return _ended(job, JobState.CANCELLED, now, message=job.stopping or str(error))
    if isinstance(error, JobPostponed):
        again = replace(job, attempts=max(0, job.attempts - 1))
        return _put_off(again, error.after_s, now, message=str(error))
    if isinstance(error, PASSING) and job.attempts < settings.attempts:
        delay_s = retry_delay_s(job.attempts, settings)
        return _put_off(replace(job, error=str(error)), delay_s, now, message="waits for its next try")
    if isinstance(error, PASSING):
        return _ended(job, JobState.FAILED, now, error=f"{error} (given up after {job.attempts} tries)")
    if isinstance(error, DpdError):
        return _ended(job, JobState.FAILED, now, error=str(error))
    log.error("job failed of a fault inside dpd", extra={"job": job.id, "kind": job.kind.value}, exc_info=error)
    return _ended(job, JobState.FAILED, now, error="a fault inside dpd; its log has the details")


def after_restart(job: Job, settings: DistributionSettings, now: float) -> Job:
    """An open job as it is when dpd begins: who ran then goes on, unless it was to stop, or dpd ended at each of its tries."""
    if job.state is not JobState.RUNNING:
        return job
    if job.stopping:
        return _ended(job, JobState.CANCELLED, now, message=job.stopping)
    if job.attempts >= settings.attempts:
        return _ended(job, JobState.FAILED, now, error=f"dpd ended during each of its {job.attempts} tries")
    return replace(job, state=JobState.QUEUED, message="goes on after a restart of dpd")


def retry_delay_s(attempts: int, settings: DistributionSettings) -> float:
    """Seconds before the next try after so many: doubles each time, to an hour."""
    return min(MAX_RETRY_DELAY_S, settings.retry_interval_s * 2.0 ** min(attempts - 1, 32))


def cancelled(job: Job, reason: str, now: float) -> Job:
    """A job that does not run, taken back."""
    return _ended(job, JobState.CANCELLED, now, message=reason)


def _put_off(job: Job, delay_s: float, now: float, *, message: str) -> Job:
    if delay_s <= 0:
        return replace(job, state=JobState.QUEUED, next_try_at=0.0, message=message)
    return replace(job, state=JobState.WAITING, next_try_at=now + delay_s, message=message)


def _ended(job: Job, state: JobState, now: float, *, message: str = "", error: str | None = None) -> Job:
    error = job.error if error is None else error
    return replace(
        job,
        state=state,
        ended_at=now,
        next_try_at=0.0,
        message=message,
        error=error,
        stopping="",
        rate_mbit_s=0.0,
        eta_s=None,
    )
