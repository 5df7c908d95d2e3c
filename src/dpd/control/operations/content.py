# SPDX-License-Identifier: Apache-2.0
"""The verbs about content: publish, list, show, tag, verify, remove, collect garbage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

from dpd.content.garbage import GcReport
from dpd.content.kinds import ContentKind
from dpd.content.library import Content, Library, Progress
from dpd.content.records import ContentQuery, FileEntry, Totals
from dpd.control.operations.uploads import Upload, Uploads
from dpd.errors import ContentError

log = logging.getLogger(__name__)

Job: TypeAlias = Callable[[], AbstractContextManager[None]]
Forget: TypeAlias = Callable[[Content], None]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class InWorker(Protocol):
    """Runs what blocks in a thread."""

    def __call__(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Awaitable[_T]: ...


class Watch(Protocol):
    """Who has to know of content that comes and goes."""

    def refuse_new_content(self) -> None: ...
    async def before_removal(self, package_id: str, source_version: int | None) -> None: ...
    async def changed(self, package_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Publishing:
    """What something is published as; None leaves version and kind to the library."""

    package_id: str
    source_version: int | None = None
    kind: ContentKind | None = None
    tags: tuple[str, ...] = ()


class ContentOperations:
    """The verbs over one library. `job` counts what a drain waits for; `forget` ends the session of what is removed."""

    def __init__(
        self, library: Library, uploads: Uploads, job: Job, in_worker: InWorker, watch: Watch, forget: Forget | None
    ) -> None:
        self._library = library
        self._uploads = uploads
        self._job = job
        self._in_worker = in_worker
        self._watch = watch
        self._forget = forget

    async def publish(self, path: Path, new: Publishing, progress: Progress) -> Content:
        """Publish a file, a folder or a split WIM that the daemon itself can read."""
        self._watch.refuse_new_content()
        with self._job():
            return await self._publish(path, new, progress)

    async def publish_upload(self, upload: Upload, new: Publishing, progress: Progress) -> Content:
        """Take a file in, then publish it under its own name. Messages speak of that name, not of our copy."""
        self._watch.refuse_new_content()
        with self._job(), self._uploads.folder() as folder:
            try:
                path = await self._uploads.save(upload, folder)
                return await self._publish(path, new, progress, is_ours=True)
            except ContentError as error:
                raise type(error)(str(error).replace(f"{folder}/", "")) from None

    async def _publish(self, path: Path, new: Publishing, progress: Progress, *, is_ours: bool = False) -> Content:
        content = await self._in_worker(
            self._library.publish,
            path,
            new.package_id,
            new.source_version,
            kind=new.kind,
            tags=new.tags,
            is_ours=is_ours,
            progress=progress,
        )
        await self._watch.changed(new.package_id)
        log.info("content published", extra={"content": str(content), "size_bytes": content.size_bytes})
        return content

    async def page(self, after: tuple[str, int] | None, limit: int, query: ContentQuery) -> list[Content]:
        """What a query finds, by package, oldest version first, behind one of them."""
        return await self._in_worker(self._library.page, after, limit, query)

    async def totals(self) -> Totals:
        """The library in numbers."""
        return await self._in_worker(self._library.totals)

    def content(self, package_id: str, source_version: int | None = None) -> Content:
        """This version, or the newest. Raises ContentNotFound."""
        return self._library.find(package_id, source_version)

    async def files(self, package_id: str, source_version: int | None, after: str, limit: int) -> list[FileEntry]:
        """Its files by path, behind one of them. Raises ContentNotFound."""
        return await self._in_worker(self._library.files, self.content(package_id, source_version), after, limit)

    async def tag(
        self, package_id: str, source_version: int | None, add: tuple[str, ...], remove: tuple[str, ...]
    ) -> Content:
        """Give it tags, and take others away. Raises ContentNotFound, ContentError."""
        before = self.content(package_id, source_version)
        tags = sorted((set(before.tags) - set(remove)) | set(add))
        content = await self._in_worker(self._library.set_tags, package_id, before.source_version, tags)
        log.info("content tagged", extra={"content": str(content), "tags": list(content.tags)})
        return content

    async def verify(self, package_id: str, source_version: int | None, progress: Progress) -> Content:
        """Read the content again and compare every blob. Raises ContentCorrupt."""
        content = self.content(package_id, source_version)
        with self._job():
            await self._in_worker(self._library.verify, package_id, content.source_version, progress=progress)
        log.info("content verified", extra={"content": str(content)})
        return content

    async def remove(self, package_id: str, source_version: int | None = None) -> Content:
        """Take content out; its session ends."""
        source_version = self.content(package_id, source_version).source_version
        await self._watch.before_removal(package_id, source_version)
        content = await self._in_worker(self._library.remove, package_id, source_version)
        await self._watch.changed(package_id)
        if self._forget is not None:
            await self._in_worker(self._forget, content)
        log.info("content removed", extra={"content": str(content)})
        return content

    async def collect(self, delete: bool, progress: Progress) -> GcReport:
        """Look for what nobody needs in the library, and remove it where `delete`."""
        with self._job():
            report = await self._in_worker(self._library.gc, delete=delete, progress=progress)
        found = {
            "garbage_blobs": report.garbage_blobs,
            "missing": len(report.missing),
            "freed_bytes": report.freed_bytes,
        }
        log.info("garbage removed" if delete else "garbage looked for", extra=found)
        return report
