# SPDX-License-Identifier: Apache-2.0
"""The verbs about boot images: add, list, show, refresh, remove."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeAlias

from dpd.boot.boot_images import BootImageStore
from dpd.boot.image_folder import Progress
from dpd.boot.image_kinds import NewImage
from dpd.boot.image_record import BootImage, Kind
from dpd.control.operations.uploads import Upload, Uploads
from dpd.errors import ContentError

log = logging.getLogger(__name__)

_SINGLE_FILE = {Kind.WINPE: "a WIM and at most one boot.sdi", Kind.EFI: "one EFI program"}


@dataclass(frozen=True, slots=True)
class BootImageStatus:
    """A boot image as the operator sees it. `firmware`: what can boot it, by the names of option 93; `generations`: the CAs of
    its Windows loaders; `is_newest`: this is the version that its id means."""

    image_id: str
    version: int
    kind: Kind
    architecture: str
    name: str
    files: tuple[str, ...]
    size_bytes: int
    added_at: float
    description: str
    command_line: str
    generations: tuple[str, ...]
    os_version: str
    is_default: bool
    via_ipxe: bool
    firmware: tuple[str, ...]
    is_newest: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One file within a body that holds several, one behind the other."""

    name: str
    size_bytes: int


Job: TypeAlias = Callable[[], AbstractContextManager[None]]
InWorker: TypeAlias = Callable[[Callable[[], BootImage]], Awaitable[BootImage]]


class ImageOperations:
    """The verbs over one store. `job` counts what a drain waits for, `in_worker` runs what blocks in a thread."""

    def __init__(self, store: BootImageStore, uploads: Uploads, job: Job, in_worker: InWorker) -> None:
        self.store = store
        self._uploads = uploads
        self._job = job
        self._in_worker = in_worker

    def images(self) -> list[BootImageStatus]:
        """Every version of every boot image."""
        return [self._status(image) for image in self.store.images()]

    def image(self, image_id: str, version: int | None = None) -> BootImageStatus:
        """This version, or the newest. Raises ContentNotFound."""
        return self._status(self.store.find(image_id, version))

    async def add(self, new: NewImage, progress: Progress) -> BootImageStatus:
        """Add an image of files that the daemon itself can read."""
        check_parts(new.kind, len(new.files))
        with self._job():
            return await self._add(new, progress)

    async def add_upload(
        self, new: NewImage, parts: Sequence[Part], chunks: AsyncIterator[bytes], progress: Progress
    ) -> BootImageStatus:
        """Take the files in, then add them. For a WIM a second one is its boot.sdi."""
        check_parts(new.kind, len(parts))
        with self._job(), self._uploads.folder() as folder:
            try:
                files = await self._save(parts, chunks, folder)
                return await self._add(_with_files(new, files), progress)
            except ContentError as error:
                raise type(error)(_without(str(error), folder, len(parts))) from None

    async def refresh(self, image_id: str, progress: Progress) -> BootImageStatus:
        """Take the loaders out of the newest version's WIM again, as a new version. Raises ContentNotFound, ContentError."""
        with self._job():
            image = await self._in_worker(lambda: self.store.refresh(image_id, progress))
        log.info("boot image refreshed", extra={"boot_image": str(image)})
        return self._status(image)

    async def remove(self, image_id: str, version: int | None = None) -> BootImageStatus:
        """Take this version out, or the newest. Raises ContentNotFound."""
        last = self.image(image_id, version)
        image = await self._in_worker(lambda: self.store.remove(image_id, last.version))
        log.info("boot image removed", extra={"boot_image": str(image)})
        return last

    async def _add(self, new: NewImage, progress: Progress) -> BootImageStatus:
        image = await self._in_worker(lambda: self.store.add(new, progress))
        log.info("boot image added", extra={"boot_image": str(image), "kind": image.kind.value})
        return self._status(image)

    async def _save(self, parts: Sequence[Part], chunks: AsyncIterator[bytes], folder: Path) -> tuple[Path, ...]:
        """Each file in a folder of its own, since two of them may have one name."""
        body, files = _Body(chunks), []
        for number, part in enumerate(parts):
            place = folder / str(number)
            place.mkdir()
            path = await self._uploads.save(Upload(part.name, part.size_bytes, body.take(part.size_bytes)), place)
            if path.stat().st_size != part.size_bytes:
                raise ContentError(
                    f"{part.name}: {path.stat().st_size} bytes came, expected {part.size_bytes}; send it again"
                )
            files.append(path)
        if await body.has_more():
            raise ContentError("the body is longer than its parts say; send it again")
        return tuple(files)

    def _status(self, image: BootImage) -> BootImageStatus:
        newest = max(each.version for each in (*self.store.images(), image) if each.image_id == image.image_id)
        told = {each.name: getattr(image, each.name) for each in fields(BootImage)}
        return BootImageStatus(**told, firmware=tuple(sorted(image.firmware)), is_newest=image.version == newest)


class _Body:
    """A body of several files, handed out piece by piece."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""

    async def take(self, size: int) -> AsyncIterator[bytes]:
        """The next bytes, fewer only where the body ends."""
        while size:
            if not self._held and not await self._read():
                return
            piece, self._held = self._held[:size], self._held[size:]
            size -= len(piece)
            yield piece

    async def has_more(self) -> bool:
        return bool(self._held) or await self._read()

    async def _read(self) -> bool:
        async for chunk in self._chunks:
            if chunk:
                self._held = chunk
                return True
        return False


def check_parts(kind: Kind, count: int) -> None:
    """Raises ContentError for a number of files that the kind cannot have."""
    allowed = {Kind.WINPE: (1, 2), Kind.EFI: (1, 1), Kind.LINUX: (1, 17)}[kind]
    if not allowed[0] <= count <= allowed[1]:
        expected = _SINGLE_FILE.get(kind, "a kernel and at most 16 initrds")
        raise ContentError(f"boot image of {count} files: expected {expected}")


def _with_files(new: NewImage, files: tuple[Path, ...]) -> NewImage:
    """Uploaded files are ours, so that the WIM is on the disk once."""
    if new.kind is Kind.WINPE:
        return replace(new, files=files[:1], sdi=files[1] if len(files) > 1 else None, is_ours=True)
    return replace(new, files=files, is_ours=True)


def _without(message: str, folder: Path, parts: int) -> str:
    """Messages speak of the operator's names, not of our copies."""
    for number in range(parts):
        message = message.replace(f"{folder}/{number}/", "")
    return message
