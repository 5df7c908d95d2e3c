# SPDX-License-Identifier: Apache-2.0
"""The API's routes to the images in content."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Protocol

from aiohttp import web
from msgspec import Meta, Struct

from dpd.content.library import Content
from dpd.content.library import Progress as Report
from dpd.control.api.messages.message import Failure, JobLine, PackageId, Progress, Request, SourceVersion
from dpd.control.api.openapi import Route
from dpd.control.api.streams.job import stream_job
from dpd.control.operations.wim import ContentImages, ImageCheck, WimOperations, WimPlace

ContentPath = Annotated[
    str, Meta(max_length=4095, description="A file in the content, where it is a folder with several WIMs")
]
ImageIndex = Annotated[int, Meta(ge=1, le=2**31 - 1, description="The image's index, from 1")]


class WimParameters(Request):
    package_id: PackageId
    source_version: SourceVersion | None = None
    path: ContentPath = ""

    def place(self) -> WimPlace:
        return WimPlace(self.package_id, self.source_version, self.path)


class ExportParameters(WimParameters, kw_only=True):
    index: ImageIndex


class ExportRequest(Request):
    """The package that the image becomes. Without a version it is the newest plus one."""

    package_id: PackageId
    source_version: SourceVersion | None = None


class ImageCheckLine(Struct, omit_defaults=True):
    """One line of a long reply: exactly one of the three is there; the last line has no `progress`."""

    progress: Progress | None = None
    content: ImageCheck | None = None
    error: Failure | None = None


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def wims(self) -> WimOperations: ...


async def list_images(api: Asked, request: web.Request, parameters: WimParameters, body: None) -> ContentImages:
    return await api.wims.images(parameters.place())


async def verify_images(api: Asked, request: web.Request, parameters: WimParameters, body: None) -> web.StreamResponse:
    return await stream_job(request, partial(api.wims.verify, parameters.place()), ImageCheckLine)


async def export_image(
    api: Asked, request: web.Request, parameters: ExportParameters, body: ExportRequest
) -> web.StreamResponse:
    async def export(progress: Report) -> Content:
        return await api.wims.export(
            parameters.place(), parameters.index, body.package_id, body.source_version, progress
        )

    return await stream_job(request, export, JobLine)


_MISSING, _CONFLICT, _CORRUPT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/content/{package_id}/images",
        "The images in a content, read from the header and tables of its WIM",
        list_images,
        ContentImages,
        parameters=WimParameters,
        refusals=(_MISSING, _CONFLICT, _CORRUPT),
    ),
    Route(
        "POST",
        "/v1/content/{package_id}/images/verify",
        "Compare what is in a WIM with the SHA-1 that the WIM itself gives for it",
        verify_images,
        ImageCheckLine,
        parameters=WimParameters,
        is_stream=True,
        refusals=(_MISSING, _CONFLICT, _CORRUPT, _BUSY),
    ),
    Route(
        "POST",
        "/v1/content/{package_id}/images/{index}/export",
        "Publish one image as a content of its own; the origin stays as it is",
        export_image,
        JobLine,
        parameters=ExportParameters,
        body=ExportRequest,
        is_stream=True,
        refusals=(_MISSING, _CONFLICT, _CORRUPT, _FULL, _BUSY),
    ),
)
