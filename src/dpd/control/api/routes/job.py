# SPDX-License-Identifier: Apache-2.0
"""The API's routes to jobs, states of packages and maintenance."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.job import (
    ContentMaintenance,
    ContentMaintenanceRequest,
    EndedParameters,
    JobList,
    JobParameters,
    JobRequest,
    OnePackageParameters,
    OpenJobList,
    OpenParameters,
    PackageList,
    PackagesParameters,
    PackageVerb,
)
from dpd.control.api.messages.root import RootParameters
from dpd.control.api.openapi import Route
from dpd.control.api.refusals import RequestRefused
from dpd.control.operations.job import JobOperations
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, OptionValue
from dpd.distribution.pulling.url_pull import UrlOrder
from dpd.distribution.states import PackageStatus
from dpd.errors import JobError


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def jobs(self) -> JobOperations: ...


async def submit_job(api: Asked, request: web.Request, parameters: None, body: JobRequest) -> Job:
    if body.package_id is None and body.kind is not PackageVerb.VALIDATE:
        raise RequestRefused(f"package_id: missing; expected the ID of the package to {body.kind}")
    if body.package_id is None and body.source_version is not None:
        raise RequestRefused("source_version: a version of which package? expected package_id beside it")
    kind, actor = JobKind(body.kind.value), actor_of(request)
    return await api.jobs.submit(
        JobOrder(kind, body.package_id or "", body.source_version, body.priority, _options(body), actor)
    )


def _options(body: JobRequest) -> dict[str, OptionValue]:
    """Where a file comes from that no source has."""
    given = {"url": body.url, "sha256": body.sha256.lower(), "ca_file": body.ca_file}
    options: dict[str, OptionValue] = {name: value for name, value in given.items() if value}
    if options and body.kind is not PackageVerb.DISTRIBUTE:
        raise RequestRefused(f"{next(iter(options))}: only for the kind distribute")
    if bool(body.url) != bool(body.sha256):
        raise RequestRefused("url and sha256: expected both, or none of them")
    try:
        UrlOrder.of(options)
    except JobError as error:
        raise RequestRefused(str(error)) from None
    return options


async def drain_root(api: Asked, request: web.Request, parameters: RootParameters, body: None) -> Job:
    order = JobOrder(JobKind.DRAIN, options={"root": parameters.root}, actor=actor_of(request))
    return await api.jobs.submit(order)


async def list_open_jobs(api: Asked, request: web.Request, parameters: OpenParameters, body: None) -> OpenJobList:
    jobs = await api.jobs.open_jobs()
    return OpenJobList(jobs[: parameters.limit], len(jobs))


async def list_ended_jobs(api: Asked, request: web.Request, parameters: EndedParameters, body: None) -> JobList:
    state = None if parameters.state is None else JobState(parameters.state.value)
    found = api.jobs.ended_jobs(parameters.before, parameters.limit, parameters.package_id or "", state)
    return JobList(await found)


async def show_job(api: Asked, request: web.Request, parameters: JobParameters, body: None) -> Job:
    return await api.jobs.job(parameters.job)


async def cancel_job(api: Asked, request: web.Request, parameters: JobParameters, body: None) -> Job:
    return await api.jobs.cancel(parameters.job, actor_of(request))


async def retry_job(api: Asked, request: web.Request, parameters: JobParameters, body: None) -> Job:
    return await api.jobs.retry(parameters.job, actor_of(request))


async def list_packages(api: Asked, request: web.Request, parameters: PackagesParameters, body: None) -> PackageList:
    return PackageList(await api.jobs.packages(parameters.after or "", parameters.limit))


async def show_package(api: Asked, request: web.Request, parameters: OnePackageParameters, body: None) -> PackageStatus:
    return await api.jobs.package(parameters.package_id)


async def show_content_maintenance(
    api: Asked, request: web.Request, parameters: None, body: None
) -> ContentMaintenance:
    return ContentMaintenance(api.jobs.maintenance())


async def change_content_maintenance(
    api: Asked, request: web.Request, parameters: None, body: ContentMaintenanceRequest
) -> ContentMaintenance:
    return ContentMaintenance(await api.jobs.set_maintenance(body.reason.strip(), actor_of(request)))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "POST",
        "/v1/jobs",
        "Order a job: distribute, update, redistribute, remove or validate a package",
        submit_job,
        Job,
        body=JobRequest,
        refusals=(_CONFLICT, _FULL, _BUSY),
    ),
    Route(
        "POST",
        "/v1/roots/{root}/drain",
        "Move everything in a root elsewhere, as a job; it takes no new content from then on",
        drain_root,
        Job,
        parameters=RootParameters,
        refusals=(_CONFLICT, _FULL, _BUSY),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/jobs",
        "The jobs that run or will, in the order of their turn",
        list_open_jobs,
        OpenJobList,
        parameters=OpenParameters,
    ),
    Route(
        "GET",
        "/v1/jobs/ended",
        "The jobs that have ended, the newest first",
        list_ended_jobs,
        JobList,
        parameters=EndedParameters,
    ),
    Route(
        "GET",
        "/v1/jobs/{job}",
        "One job, as it is now",
        show_job,
        Job,
        parameters=JobParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/jobs/{job}/cancel",
        "Take a job back; one that runs stops at its next piece",
        cancel_job,
        Job,
        parameters=JobParameters,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "POST",
        "/v1/jobs/{job}/retry",
        "Try now what waits; order anew what failed or was cancelled",
        retry_job,
        Job,
        parameters=JobParameters,
        refusals=(_MISSING, _CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/packages",
        "The state of each package, told by the library and the jobs",
        list_packages,
        PackageList,
        parameters=PackagesParameters,
    ),
    Route(
        "GET",
        "/v1/packages/{package_id}",
        "The state of one package",
        show_package,
        PackageStatus,
        parameters=OnePackageParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "GET",
        "/v1/maintenance",
        "Whether new content comes in and clients are handed any",
        show_content_maintenance,
        ContentMaintenance,
    ),
    Route(
        "PATCH",
        "/v1/maintenance",
        "Keep content as it is and hand none out, or end that",
        change_content_maintenance,
        ContentMaintenance,
        body=ContentMaintenanceRequest,
        role=Role.ADMIN,
    ),
)
