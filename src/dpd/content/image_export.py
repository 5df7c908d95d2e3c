# SPDX-License-Identifier: Apache-2.0
"""One image of a WIM as a content of its own. The source is only read, and nothing of it changes.

wimlib copies the image's resources to a new file in the library's incoming/, then reads that file back and compares
every blob with its SHA-1, so that damage in the source does not become a new content with a hash of its own. Then the
file is published, which moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from dpd.content.image_lookup import OpenedWim, Shelf, open_wim
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.publication import Order, check_names
from dpd.content.records import Content
from dpd.content.wim import tool as wim_tool
from dpd.content.wim.tags import image_tags
from dpd.content.wim.verification import Progress
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError

_SPARE_BYTES = 4 << 20  # its own tables


class Library(Shelf, Protocol):
    """What is needed of the library to publish there as well."""

    def staging(self, size_bytes: int) -> AbstractContextManager[Path]: ...
    def unless_closing(self, progress: Progress) -> Progress: ...
    def publish_order(self, order: Order, progress: Progress) -> Content: ...


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """Which image, and the package that it becomes; None takes the version after the newest. `path` is the WIM in a folder."""

    origin: Content
    index: int
    package_id: str
    source_version: int | None = None
    path: str = ""


def export_image(library: Library, order: ExportOrder, progress: Progress) -> Content:
    """Blocks until it is published. Raises ContentError, ContentCorrupt, LibraryFull, with nothing left behind."""
    check_names(order.package_id, order.source_version)
    with open_wim(library, order.origin, order.path) as source:
        image = _image(order, source)
        needed = needed_bytes(source, image)
        with library.staging(needed) as folder:
            written = folder / export_name(source.file_name, image.index)
            stages = _Stages(library.unless_closing(progress), needed)
            _write(order, source, image, written, stages)
            kind, tags = _kind(order.origin), own_tags(order.origin)
            publishing = Order(written, order.package_id, order.source_version, kind, tags, is_ours=True)
            return library.publish_order(publishing, stages.next())


def needed_bytes(source: OpenedWim, image: ImageSummary) -> int:
    """The most that the exported file may take. Resources are copied as they are, so it is no larger than its source; but
    what is taken out of a solid resource is compressed again, of which nobody knows how well that goes."""
    original = max(0, image.size_bytes - image.hard_link_bytes)
    return (original if source.is_solid else min(original, source.size_bytes)) + _SPARE_BYTES


def export_name(file_name: str, index: int) -> str:
    """The name of an exported file: install-2.wim of install.wim; a split WIM becomes a whole one."""
    path = PurePosixPath(file_name)
    suffix = path.suffix if path.suffix.lower() in (".wim", ".esd") else ".wim"
    return f"{path.stem}-{index}{suffix}"


def own_tags(content: Content) -> tuple[str, ...]:
    """Those that an operator gave, without those of its images."""
    return tuple(sorted(set(content.tags) - set(image_tags(content.images))))


def _kind(origin: Content) -> ContentKind | None:
    """That of the origin; but an image out of a folder is one, whatever the folder was."""
    return None if origin.format is ContentFormat.TREE else origin.kind


def _image(order: ExportOrder, source: OpenedWim) -> ImageSummary:
    images = source.summary.images
    if not 1 <= order.index <= len(images):
        has = "1 image" if len(images) == 1 else f"{len(images)} images"
        raise ContentError(
            f"{order.origin}: has {has}, and none with index {order.index}; `dpd content images {order.origin.package_id}` shows them"
        )
    return images[order.index - 1]


def _write(order: ExportOrder, source: OpenedWim, image: ImageSummary, written: Path, stages: _Stages) -> None:
    summary = source.summary
    bootable, with_integrity = summary.boot_index == image.index, summary.integrity is not None
    try:
        wim_tool.export(
            source.parts, image.index, written, stages.next(), bootable=bootable, with_integrity=with_integrity
        )
        with written.open("rb") as file:
            wim_tool.verify([file.fileno()], stages.next())
    except ContentCorrupt as error:
        raise ContentCorrupt(
            f"{order.origin}: image {image.index} cannot be exported whole: {error}; `dpd content verify {order.origin.package_id}` tells whether it is damaged here"
        ) from None


class _Stages:
    """Writing, comparing and publishing as one progress over the file's size, each of them a third of it."""

    COUNT = 3

    def __init__(self, progress: Progress, size_bytes: int) -> None:
        self._progress = progress
        self._size_bytes = size_bytes
        self._ended = -1

    def next(self) -> Callable[[int, int], None]:
        """For the stage that begins now."""
        self._ended += 1
        begin = self._ended * self._size_bytes

        def report(done: int, total: int) -> None:
            part = self._size_bytes * min(done, total) // total if total else 0
            self._progress((begin + part) // self.COUNT, self._size_bytes)

        return report
