# SPDX-License-Identifier: Apache-2.0
"""The API's routes to content."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from aiohttp import web

from dpd.content.kinds import ContentKind
from dpd.content.library import Content
from dpd.content.records import ContentQuery, Totals
from dpd.control.access.callers import Role
from dpd.control.api.messages.content import (
    ContentList,
    ContentListParameters,
    FileList,
    FileListParameters,
    GcLine,
    GcRequest,
    PublishRequest,
    TagRequest,
    UploadParameters,
)
from dpd.control.api.messages.message import JobLine, PackageParameters
from dpd.control.api.openapi import Route
from dpd.control.api.refusals import RequestRefused
from dpd.control.api.streams.job import stream_job
from dpd.control.operations.content import ContentOperations, Publishing
from dpd.control.operations.uploads import Upload

CHUNK_BYTES = 1 << 20


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def content(self) -> ContentOperations: ...


async def list_content(api: Asked, request: web.Request, parameters: ContentListParameters, body: None) -> ContentList:
    query = ContentQuery(
        text=parameters.text,
        kind=_kind(parameters.kind),
        tags=_split(parameters.tags),
        newest=parameters.newest == "true",
    )
    found = await api.content.page(_cursor(parameters.after), parameters.limit + 1, query)
    page = found[: parameters.limit]
    return ContentList(page, f"{page[-1].package_id}/{page[-1].source_version}" if len(found) > len(page) else "")


async def show_totals(api: Asked, request: web.Request, parameters: None, body: None) -> Totals:
    return await api.content.totals()


async def publish(
    api: Asked, request: web.Request, parameters: UploadParameters, body: PublishRequest | None
) -> web.StreamResponse:
    if body is not None:
        new = Publishing(body.package_id, body.source_version, _kind(body.kind), tuple(body.tags))
        return await stream_job(request, partial(api.content.publish, Path(body.path), new))
    if parameters.package_id is None:
        raise RequestRefused("package_id: missing in the query; expected the ID of the package that is sent")
    new = Publishing(parameters.package_id, parameters.source_version, _kind(parameters.kind), _split(parameters.tags))
    upload = Upload(parameters.name, request.content_length, request.content.iter_chunked(CHUNK_BYTES))
    return await stream_job(request, partial(api.content.publish_upload, upload, new))


async def show_content(api: Asked, request: web.Request, parameters: PackageParameters, body: None) -> Content:
    return api.content.content(parameters.package_id, parameters.source_version)


async def list_files(api: Asked, request: web.Request, parameters: FileListParameters, body: None) -> FileList:
    asked = parameters.package_id, parameters.source_version, parameters.after, parameters.limit + 1
    found = await api.content.files(*asked)
    page = found[: parameters.limit]
    return FileList(page, page[-1].path if len(found) > len(page) else "")


async def tag_content(api: Asked, request: web.Request, parameters: PackageParameters, body: TagRequest) -> Content:
    return await api.content.tag(parameters.package_id, parameters.source_version, tuple(body.add), tuple(body.remove))


async def remove_content(api: Asked, request: web.Request, parameters: PackageParameters, body: None) -> Content:
    return await api.content.remove(parameters.package_id, parameters.source_version)


async def verify_content(
    api: Asked, request: web.Request, parameters: PackageParameters, body: None
) -> web.StreamResponse:
    return await stream_job(request, partial(api.content.verify, parameters.package_id, parameters.source_version))


async def collect_garbage(api: Asked, request: web.Request, parameters: None, body: GcRequest) -> web.StreamResponse:
    return await stream_job(request, partial(api.content.collect, body.delete), GcLine)


def _kind(name: str | None) -> ContentKind | None:
    return None if name is None else ContentKind(name)


def _split(tags: str) -> tuple[str, ...]:
    return tuple(tags.split(",")) if tags else ()


def _cursor(text: str) -> tuple[str, int] | None:
    package_id, _, version = text.partition("/")
    return (package_id, int(version)) if text else None


_MISSING, _CONFLICT, _CORRUPT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/content",
        "Content by page: by package, oldest version first",
        list_content,
        ContentList,
        parameters=ContentListParameters,
    ),
    Route(
        "POST",
        "/v1/content",
        "Publish: a file, folder or split WIM named as JSON where the daemon can read it, or a file sent as the body",
        publish,
        JobLine,
        parameters=UploadParameters,
        body=PublishRequest,
        is_upload=True,
        is_stream=True,
        refusals=(_CONFLICT, _CORRUPT, _FULL, _BUSY),
        json_role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/content/{package_id}",
        "One version of a package, or the newest",
        show_content,
        Content,
        parameters=PackageParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "GET",
        "/v1/content/{package_id}/files",
        "The files of one version, or the newest, by path",
        list_files,
        FileList,
        parameters=FileListParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "PATCH",
        "/v1/content/{package_id}/tags",
        "Give one version, or the newest, tags, and take others away",
        tag_content,
        Content,
        parameters=PackageParameters,
        body=TagRequest,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "DELETE",
        "/v1/content/{package_id}",
        "Remove one version of a package, or the newest; its session ends",
        remove_content,
        Content,
        parameters=PackageParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/content/{package_id}/verify",
        "Read the content again and compare every slab with its hash",
        verify_content,
        JobLine,
        parameters=PackageParameters,
        is_stream=True,
        refusals=(_MISSING, _CORRUPT, _BUSY),
    ),
    Route("GET", "/v1/library", "The library in numbers", show_totals, Totals),
    Route(
        "POST",
        "/v1/library/gc",
        "Look for what nobody needs in the library; remove it where `delete` says so",
        collect_garbage,
        GcLine,
        body=GcRequest,
        is_stream=True,
        refusals=(_CONFLICT, _BUSY),
    ),
)
