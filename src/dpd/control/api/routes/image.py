# SPDX-License-Identifier: Apache-2.0
"""The API's routes to boot images."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dpd.boot.image_folder import Progress as Report
from dpd.boot.image_kinds import NewImage
from dpd.boot.image_record import Kind
from dpd.control.access.callers import Role
from dpd.control.api.messages.message import AbsolutePath, Failure, FileName, Progress, Request
from dpd.control.api.openapi import Route
from dpd.control.api.refusals import RequestRefused
from dpd.control.api.streams.job import stream_job
from dpd.control.operations.image import BootImageStatus, ImageOperations, Part

CHUNK_BYTES = 1 << 20
_END = r"(?![\s\S])"
ImageId = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}", description="The boot image's ID, such as LAB00005")
]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1, description="This version instead of the newest")]
CommandLine = Annotated[
    str, Meta(max_length=2000, description="Of a Linux kernel; {server}, {http_port}, {mac} and {guid} are filled in")
]
Description = Annotated[str, Meta(max_length=200, description="What whoever sits at the machine reads")]
Architecture = Annotated[str, Meta(pattern=rf"^(x86|x64|arm64)?{_END}", description="x86, x64 or arm64")]
Parts = Annotated[
    str, Meta(max_length=8000, description='The files in the body, in order: [{"name": "boot.wim", "size_bytes": 1}]')
]


class ImageParameters(Request):
    image_id: ImageId
    version: Version | None = None


class RefreshParameters(Request):
    image_id: ImageId


class ImageDescription(Request):
    """What both ways of adding tell."""

    image_id: ImageId | None = None
    kind: Literal["winpe", "linux", "efi"] = "winpe"  # not Kind: a parameter's schema has no place for references
    command_line: CommandLine = ""
    description: Description = ""
    architecture: Architecture = ""
    is_default: bool = False
    via_ipxe: bool = False

    def new_image(self, files: tuple[Path, ...], sdi: Path | None = None) -> NewImage:
        """Raises RequestRefused."""
        if self.image_id is None:
            raise RequestRefused("image_id: missing; expected the ID of the boot image, such as LAB00005")
        return NewImage(
            self.image_id,
            Kind(self.kind),
            files,
            command_line=self.command_line,
            description=self.description,
            architecture=self.architecture,
            sdi=sdi,
            is_default=self.is_default,
            via_ipxe=self.via_ipxe,
        )


class ImageUploadParameters(ImageDescription):
    """Of a POST whose body is the files themselves, one behind the other; none of them with a JSON body."""

    parts: Parts = "[]"


class AddImageRequest(ImageDescription, kw_only=True):
    """Add a boot image of files that the daemon can read: the WIM, or the kernel and then its initrds, or the EFI program."""

    files: list[AbsolutePath]
    sdi: AbsolutePath | None = None


class BootImageList(Struct):
    boot_images: list[BootImageStatus]


class ImageJobLine(Struct, omit_defaults=True):
    """One line of a long reply: exactly one of the three is there; the last line has no `progress`."""

    progress: Progress | None = None
    content: BootImageStatus | None = None
    error: Failure | None = None


class _NamedPart(Struct, forbid_unknown_fields=True):
    name: FileName
    size_bytes: Annotated[int, Meta(ge=1, le=2**50)]


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def images(self) -> ImageOperations: ...


async def list_boot_images(api: Asked, request: web.Request, parameters: None, body: None) -> BootImageList:
    return BootImageList(api.images.images())


async def add_boot_image(
    api: Asked, request: web.Request, parameters: ImageUploadParameters, body: AddImageRequest | None
) -> web.StreamResponse:
    if body is not None:
        new = body.new_image(tuple(map(Path, body.files)), Path(body.sdi) if body.sdi else None)
        return await stream_job(request, partial(api.images.add, new), ImageJobLine)
    new, parts = parameters.new_image(()), _read_parts(parameters.parts)

    async def take_in(progress: Report) -> BootImageStatus:
        return await api.images.add_upload(new, parts, request.content.iter_chunked(CHUNK_BYTES), progress)

    return await stream_job(request, take_in, ImageJobLine)


async def show_boot_image(api: Asked, request: web.Request, parameters: ImageParameters, body: None) -> BootImageStatus:
    return api.images.image(parameters.image_id, parameters.version)


async def remove_boot_image(
    api: Asked, request: web.Request, parameters: ImageParameters, body: None
) -> BootImageStatus:
    return await api.images.remove(parameters.image_id, parameters.version)


async def refresh_boot_image(
    api: Asked, request: web.Request, parameters: RefreshParameters, body: None
) -> web.StreamResponse:
    return await stream_job(request, partial(api.images.refresh, parameters.image_id), ImageJobLine)


def _read_parts(text: str) -> list[Part]:
    try:
        named = msgspec.json.decode(text, type=list[_NamedPart])
    except msgspec.MsgspecError as error:
        raise RequestRefused(f"parts: {error}") from None
    return [Part(each.name, each.size_bytes) for each in named]


_MISSING, _CONFLICT, _CORRUPT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route("GET", "/v1/boot-images", "Every version of every boot image", list_boot_images, BootImageList),
    Route(
        "POST",
        "/v1/boot-images",
        "Add a boot image: files named as JSON where the daemon can read them, or sent as the body",
        add_boot_image,
        ImageJobLine,
        parameters=ImageUploadParameters,
        body=AddImageRequest,
        is_upload=True,
        is_stream=True,
        refusals=(_CONFLICT, _CORRUPT, _FULL, _BUSY),
        json_role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/boot-images/{image_id}",
        "One version of a boot image, or the newest",
        show_boot_image,
        BootImageStatus,
        parameters=ImageParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "DELETE",
        "/v1/boot-images/{image_id}",
        "Remove one version of a boot image, or the newest",
        remove_boot_image,
        BootImageStatus,
        parameters=ImageParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/boot-images/{image_id}/refresh",
        "Take the loader files out of the newest version's WIM again, as a new version",
        refresh_boot_image,
        ImageJobLine,
        parameters=RefreshParameters,
        is_stream=True,
        refusals=(_MISSING, _CONFLICT, _CORRUPT, _FULL, _BUSY),
    ),
)
