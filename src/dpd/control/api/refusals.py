# SPDX-License-Identifier: Apache-2.0
"""How a refusal looks at the API: HTTP status, a code from a closed list, a sentence."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from msgspec import json

from dpd.control.access.callers import CallerUnknown, RoleMissing
from dpd.control.api.messages.message import Failure, Refusal
from dpd.errors import (
    BusError,
    BusUnavailable,
    ContentCorrupt,
    ContentError,
    ContentNotFound,
    DeploymentDiskFull,
    DeploymentError,
    DpdError,
    ExecutionNotFound,
    JobError,
    JobNotFound,
    LibraryFull,
    SessionError,
    SessionNotFound,
    SourceUnavailable,
    Unavailable,
)
from dpd.sequence.records import SequenceConflict, SequenceNotFound
from dpd.site.records import NotConfirmed, SiteConflict, SiteNotFound
from dpd.urls import without_secrets


class RequestRefused(DpdError):
    """The request itself is wrong: a field, the body, the content type."""


class MachineUnknown(DpdError):
    """No machine with that MAC asked for a network boot."""


# The first that fits counts, so children stand before their parents.
_STATUSES: tuple[tuple[type[DpdError], HTTPStatus, str], ...] = (
    (CallerUnknown, HTTPStatus.UNAUTHORIZED, "unauthorized"),
    (RoleMissing, HTTPStatus.FORBIDDEN, "forbidden"),
    (ContentNotFound, HTTPStatus.NOT_FOUND, "content_not_found"),
    (SessionNotFound, HTTPStatus.NOT_FOUND, "session_not_found"),
    (MachineUnknown, HTTPStatus.NOT_FOUND, "machine_unknown"),
    (SiteNotFound, HTTPStatus.NOT_FOUND, "site_not_found"),
    (NotConfirmed, HTTPStatus.CONFLICT, "not_confirmed"),
    (SiteConflict, HTTPStatus.CONFLICT, "site_conflict"),
    (LibraryFull, HTTPStatus.INSUFFICIENT_STORAGE, "library_full"),
    (ContentCorrupt, HTTPStatus.UNPROCESSABLE_ENTITY, "content_corrupt"),
    (SourceUnavailable, HTTPStatus.BAD_GATEWAY, "source_unavailable"),
    (ContentError, HTTPStatus.CONFLICT, "content_refused"),
    (JobNotFound, HTTPStatus.NOT_FOUND, "job_not_found"),
    (JobError, HTTPStatus.CONFLICT, "job_refused"),
    (SessionError, HTTPStatus.CONFLICT, "session_refused"),
    (ExecutionNotFound, HTTPStatus.NOT_FOUND, "execution_not_found"),
    (DeploymentDiskFull, HTTPStatus.INSUFFICIENT_STORAGE, "disk_full"),
    (DeploymentError, HTTPStatus.CONFLICT, "deployment_refused"),
    (SequenceNotFound, HTTPStatus.NOT_FOUND, "sequence_not_found"),
    (SequenceConflict, HTTPStatus.CONFLICT, "sequence_conflict"),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    (BusUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "bus_unavailable"),
    (BusError, HTTPStatus.BAD_GATEWAY, "bus_failed"),
    (DpdError, HTTPStatus.BAD_REQUEST, "bad_request"),
)


def classify(error: DpdError) -> tuple[HTTPStatus, Failure]:
    """The status and the body of an error that was raised on purpose."""
    status, code = next((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
    return status, Failure(code, without_secrets(str(error)))


def refuse(status: int, failure: Failure, headers: dict[str, str] | None = None) -> web.Response:
    """The response for a failure."""
    body = json.encode(Refusal(failure))
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"} | (headers or {})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
