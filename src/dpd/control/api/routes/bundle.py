# SPDX-License-Identifier: Apache-2.0
"""The API's routes to bundles."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.content.signatures.document import MAX_DOCUMENT_BYTES
from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.body_pipe import BodyReader, BodyWriter
from dpd.control.api.messages.bundle import (
    ExportParameters,
    ExportRequest,
    ImportBundleParameters,
    ImportedBundle,
    ImportLine,
    ImportRequest,
)
from dpd.control.api.openapi import Route
from dpd.control.api.refusals import RequestRefused
from dpd.control.operations.bundle import BundleOperations
from dpd.distribution.bundles.bundle import Bundle
from dpd.distribution.jobs.job import Job
from dpd.errors import DpdError

log = logging.getLogger(__name__)

TAR = "application/x-tar"


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def bundles(self) -> BundleOperations: ...


async def list_holdings(api: Asked, request: web.Request, parameters: None, body: None) -> web.Response:
    return web.Response(body=await api.bundles.holdings(), content_type="application/json")


async def export_bundle(
    api: Asked, request: web.Request, parameters: ExportParameters, body: None
) -> web.StreamResponse:
    names = [name for name in parameters.packages.split(",") if name]
    bundle = await api.bundles.prepare(names, await _read_holdings(request))
    response = web.StreamResponse(headers={"Content-Type": TAR})
    response.content_length = bundle.size_bytes
    await response.prepare(request)
    await _send(api, request, response, bundle)
    return response


async def _send(api: Asked, request: web.Request, response: web.StreamResponse, bundle: Bundle) -> None:
    """What fails now can only be told by ending before the length that was announced."""
    try:
        await api.bundles.write(bundle, BodyWriter(response))
    except (DpdError, ConnectionError) as error:
        log.error("bundle cut off", extra={"error": str(error)})
        if request.transport is not None:
            request.transport.abort()


async def _read_holdings(request: web.Request) -> bytes:
    document = bytearray()
    async for piece in request.content.iter_any():
        document += piece
        if len(document) > MAX_DOCUMENT_BYTES:
            raise RequestRefused(f"body: larger than {MAX_DOCUMENT_BYTES} bytes; expected a list of holdings")
    return bytes(document)


async def import_bundle(api: Asked, request: web.Request, parameters: ImportBundleParameters, body: None) -> ImportLine:
    done = await api.bundles.take(BodyReader(request).read, parameters.key)
    return ImportLine(ImportedBundle(list(done.contents), list(done.known), done.received_bytes, done.present_bytes))


async def order_export(api: Asked, request: web.Request, parameters: None, body: ExportRequest) -> Job:
    if bool(body.path) == bool(body.repository):
        raise RequestRefused("path and repository: expected one of them")
    options = {"path": body.path, "repository": body.repository, "packages": body.packages, "since": body.since}
    return await api.bundles.order_export(options, actor_of(request))


async def order_import(api: Asked, request: web.Request, parameters: None, body: ImportRequest) -> Job:
    return await api.bundles.order_import({"path": body.path, "key": body.key}, actor_of(request))


_MISSING, _CONFLICT, _CORRUPT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/bundles/holdings",
        "What is here, as a list for the dpd that exports what is lacking here",
        list_holdings,
        dict,
    ),
    Route(
        "POST",
        "/v1/bundles/export",
        "Packages as a bundle: a tar archive behind a signed listing",
        export_bundle,
        dict,
        parameters=ExportParameters,
        upload_type="application/json",
        reply_type=TAR,
        refusals=(_MISSING, _CONFLICT, _CORRUPT, _BUSY),
    ),
    Route(
        "POST",
        "/v1/bundles/import",
        "Take a bundle in; the reply comes when all of it has been read",
        import_bundle,
        ImportLine,
        parameters=ImportBundleParameters,
        upload_type=TAR,
        refusals=(_CONFLICT, _CORRUPT, _FULL, _BUSY),
    ),
    Route(
        "POST",
        "/v1/bundles/export-jobs",
        "Export into a file or folder that the daemon may write to, as a job",
        order_export,
        Job,
        body=ExportRequest,
        refusals=(_CONFLICT, _FULL, _BUSY),
        role=Role.ADMIN,
    ),
    Route(
        "POST",
        "/v1/bundles/import-jobs",
        "Import a bundle that the daemon may read, as a job",
        order_import,
        Job,
        body=ImportRequest,
        refusals=(_CONFLICT, _FULL, _BUSY),
        role=Role.ADMIN,
    ),
)
