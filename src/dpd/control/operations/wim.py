# SPDX-License-Identifier: Apache-2.0
"""The verbs about the images in content: look at them, compare them with their own sums, export one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from dpd.content.image_export import ExportOrder, export_image
from dpd.content.image_lookup import open_wim
from dpd.content.library import Content, ImageSummary, Library, Progress
from dpd.content.wim.verification import verify_wim
from dpd.control.operations.job import JobOperations

log = logging.getLogger(__name__)

T = TypeVar("T")
Job: TypeAlias = Callable[[], AbstractContextManager[None]]


class InWorker(Protocol):
    """Runs what blocks in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class ContentImages:
    """The WIM in a content, by its header and tables. `file` is the (first) WIM's path in it, `parts` the number of its files;
    `chunk_bytes` is 0 for a WIM that is not compressed, `boot_index` for one without a boot image; `blobs` are file
    contents, each once, of `blob_bytes` when taken out."""

    package_id: str
    source_version: int
    file: str
    size_bytes: int
    parts: int
    compression: str
    chunk_bytes: int
    solid: bool
    pipable: bool
    boot_index: int
    has_integrity: bool
    blobs: int
    blob_bytes: int
    images: tuple[ImageSummary, ...]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What of a WIM was compared with its own sums. `unchecked` resources are compressed, for which wimlib's program is
    needed and is not installed."""

    package_id: str
    source_version: int
    file: str
    resources: int
    checked: int
    unchecked: int
    by_wimlib: bool


@dataclass(frozen=True, slots=True)
class WimPlace:
    """A content, None meaning its newest version, and a file in it; "" is the one that is likely."""

    package_id: str
    source_version: int | None = None
    path: str = ""


class WimOperations:
    """The verbs over one library. `job` counts what a drain waits for."""

    def __init__(self, library: Library, job: Job, in_worker: InWorker, watch: JobOperations | None = None) -> None:
        """`watch` has to know of content that comes."""
        self._library = library
        self._watch = watch
        self._job = job
        self._in_worker = in_worker

    async def images(self, place: WimPlace) -> ContentImages:
        """What the file's own tables say. Raises ContentNotFound, ContentError, ContentCorrupt."""
        return await self._in_worker(lambda: self._images(place))

    async def verify(self, place: WimPlace, progress: Progress) -> ImageCheck:
        """Compare what is in a WIM with its own SHA-1. Raises ContentCorrupt."""
        with self._job():
            check = await self._in_worker(lambda: self._verify(place, progress))
        log.info("images verified", extra={"content": place.package_id, "checked": check.checked})
        return check

    async def export(
        self, place: WimPlace, index: int, package_id: str, source_version: int | None, progress: Progress
    ) -> Content:
        """Publish one image as a content of its own. Raises ContentError, ContentCorrupt, LibraryFull, and
        Unavailable during maintenance."""
        if self._watch is not None:
            self._watch.refuse_new_content()
        origin = self._library.find(place.package_id, place.source_version)
        order = ExportOrder(origin, index, package_id, source_version, place.path)
        with self._job():
            content = await self._in_worker(lambda: export_image(self._library, order, progress))
        if self._watch is not None:
            await self._watch.changed(content.package_id)
        log.info("image exported", extra={"content": str(content), "origin": str(origin), "index": index})
        return content

    def _images(self, place: WimPlace) -> ContentImages:
        content = self._library.find(place.package_id, place.source_version)
        with open_wim(self._library, content, place.path) as opened:
            summary = opened.summary
            return ContentImages(
                package_id=content.package_id,
                source_version=content.source_version,
                file=opened.paths[0],
                size_bytes=opened.size_bytes,
                parts=len(opened.parts),
                compression=summary.compression,
                chunk_bytes=summary.chunk_bytes,
                solid=opened.is_solid,
                pipable=summary.pipable,
                boot_index=summary.boot_index,
                has_integrity=summary.integrity is not None,
                blobs=opened.blob_count,
                blob_bytes=opened.blob_bytes,
                images=summary.images,
            )

    def _verify(self, place: WimPlace, progress: Progress) -> ImageCheck:
        content = self._library.find(place.package_id, place.source_version)
        with open_wim(self._library, content, place.path) as opened:
            found = verify_wim(opened.parts, opened.names, self._library.unless_closing(progress))
            return ImageCheck(
                package_id=content.package_id,
                source_version=content.source_version,
                file=opened.paths[0],
                resources=found.resources,
                checked=found.checked,
                unchecked=found.unchecked,
                by_wimlib=found.by_wimlib,
            )
