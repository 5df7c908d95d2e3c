# SPDX-License-Identifier: Apache-2.0
"""The state of a package here: the nine of the original, told by the library and the jobs at the moment of the question.

None is ever stored, so none can be stale: what is not in the library is not installed, whatever a job has reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dpd.content.records import Content
from dpd.distribution.jobs.job import BRINGING, Job, JobKind, JobState


class PackageState(StrEnum):
    """In the original's order, which numbers them from 0 (SMS_PackageStatusDistPointsSummarizer.State)."""

    INSTALLED = "installed"
    PENDING = "pending"
    RETRYING = "retrying"
    FAILED = "failed"
    REMOVAL_PENDING = "removal-pending"
    REMOVAL_RETRYING = "removal-retrying"
    REMOVAL_FAILED = "removal-failed"
    UPDATING = "updating"
    MONITORING = "monitoring"

    @property
    def number(self) -> int:
        """As the original counts."""
        return _NUMBERS[self]


_NUMBERS = {state: number for number, state in enumerate(PackageState)}


@dataclass(frozen=True, slots=True)
class PackageStatus:
    """A package and the job that its state comes from (None where it comes from the library alone).

    `versions` are those in the library, `damaged` those of them with a file that must not, or cannot, be given out. `why` says in
    words what is done, waited for or wrong.
    """

    package_id: str
    state: PackageState
    number: int
    versions: tuple[int, ...]
    damaged: tuple[int, ...]
    job: Job | None
    why: str


def package_status(
    package_id: str, contents: Sequence[Content], jobs: Sequence[Job], damaged: Sequence[int] = ()
) -> PackageStatus | None:
    """What the package's contents and its telling jobs (JobStore.telling) come to; None: it is not here and nobody wants it."""
    versions = tuple(sorted(content.source_version for content in contents))
    found = _by_open_job(versions, jobs) or _by_last_job(contents, jobs)
    if found is not None:
        state, job = found
        why = job.error if state in _TROUBLE else job.stopping or job.message
        return PackageStatus(package_id, state, state.number, versions, tuple(damaged), job, why)
    if damaged:
        numbers = ", ".join(map(str, damaged))
        why = f"damaged, or in a root that is missing: version {numbers}; `dpd root list` shows the roots, `dpd content redistribute {package_id}` fetches what is damaged again"
        failed = PackageState.FAILED
        return PackageStatus(package_id, failed, failed.number, versions, tuple(damaged), None, why)
    if versions:
        installed = PackageState.INSTALLED
        return PackageStatus(package_id, installed, installed.number, versions, (), None, "")
    return None


_Found = tuple[PackageState, Job]
_TROUBLE = frozenset(
    {
        PackageState.RETRYING,
        PackageState.FAILED,
        PackageState.REMOVAL_RETRYING,
        PackageState.REMOVAL_FAILED,
    }
)


def _by_open_job(versions: Sequence[int], jobs: Sequence[Job]) -> _Found | None:
    """The youngest that brings or takes out goes before one that validates."""
    current = [job for job in jobs if job.is_open]
    for job in reversed(current):
        if job.kind is JobKind.REMOVE and _takes_all(job, versions):
            return (PackageState.REMOVAL_RETRYING if job.error else PackageState.REMOVAL_PENDING), job
        if job.kind in BRINGING and job.error:
            return PackageState.RETRYING, job
        if job.kind in BRINGING:
            return (PackageState.UPDATING if versions else PackageState.PENDING), job
    for job in current:
        if job.kind is JobKind.VALIDATE and job.state is JobState.RUNNING:
            return PackageState.MONITORING, job
    return None


def _by_last_job(contents: Sequence[Content], jobs: Sequence[Job]) -> _Found | None:
    """A failure counts until the package has come or gone in another way."""
    failed = [job for job in jobs if job.state is JobState.FAILED]
    if not failed:
        return None
    job = failed[-1]
    if any(content.added_at > job.ended_at for content in contents):
        return None
    if job.kind is JobKind.REMOVE:
        return (PackageState.REMOVAL_FAILED, job) if contents else None
    if job.kind in BRINGING and job.source_version not in [content.source_version for content in contents]:
        return PackageState.FAILED, job
    if job.kind is JobKind.REDISTRIBUTE:  # the version is here, but not as it should be
        return PackageState.FAILED, job
    return None


def _takes_all(job: Job, versions: Sequence[int]) -> bool:
    return job.source_version is None or not set(versions) - {job.source_version}
