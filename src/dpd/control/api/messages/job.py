# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about jobs, states of packages and maintenance."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from dpd.control.api.messages.message import PackageId, Request, SourceVersion
from dpd.distribution.jobs.job import Job, Priority
from dpd.distribution.states import PackageStatus

JobNumber = Annotated[int, Meta(ge=1, le=2**53 - 1, description="A job, by the number it is listed under")]
PageSize = Annotated[int, Meta(ge=1, le=1000)]


class PackageVerb(StrEnum):
    """The jobs of one package; those of roots, bundles and garbage have paths of their own."""

    DISTRIBUTE = "distribute"
    UPDATE = "update"
    REDISTRIBUTE = "redistribute"
    REMOVE = "remove"
    VALIDATE = "validate"


class EndedState(StrEnum):
    """How a job may have ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobRequest(Request):
    """Without a version: the newest that a source has; for `redistribute` the newest that is here, for `remove` and
    `validate` every one. `validate` without a
    package is the whole library. An order that is open already is answered with its job, which takes the more urgent
    `priority` (1 high, 2 normal, 3 low). `url` distributes a file from there instead of the sources: `sha256` is that of
    the file, `ca_file` the authority of its server where that is a private one."""

    kind: PackageVerb
    package_id: PackageId | None = None
    source_version: SourceVersion | None = None
    priority: Priority = Priority.NORMAL
    url: Annotated[str, Meta(max_length=2000)] = ""
    sha256: Annotated[str, Meta(max_length=64)] = ""
    ca_file: Annotated[str, Meta(max_length=4095)] = ""


class JobParameters(Request):
    job: JobNumber


class OpenParameters(Request):
    """The first `limit` whose turn it is."""

    limit: Annotated[int, Meta(ge=1, le=10000)] = 1000


class EndedParameters(Request):
    """`before`: only jobs with lower numbers, which is the next page."""

    before: JobNumber | None = None
    limit: PageSize = 100
    package_id: PackageId | None = None
    state: EndedState | None = None


class PackagesParameters(Request):
    """`after`: only packages behind this one, which is the next page."""

    after: PackageId | None = None
    limit: PageSize = 100


class OnePackageParameters(Request):
    package_id: PackageId


class ContentMaintenanceRequest(Request):
    """With a reason no new content comes in and none is handed to clients; validation goes on. "" ends that."""

    reason: Annotated[str, Meta(max_length=200)]


class JobList(Struct):
    jobs: list[Job]


class OpenJobList(Struct):
    """`total` counts those that are left out too."""

    jobs: list[Job]
    total: int


class PackageList(Struct):
    packages: list[PackageStatus]


class ContentMaintenance(Struct):
    """`reason` "": there is none."""

    reason: str
