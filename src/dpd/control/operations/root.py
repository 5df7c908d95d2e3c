# SPDX-License-Identifier: Apache-2.0
"""The verbs about the folders that hold the library's blobs: list, add, change, remove. Draining is a job."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from dpd.content.storage.roots import RootStatus

log = logging.getLogger(__name__)

Looked: TypeAlias = RootStatus | list[RootStatus]
InWorker: TypeAlias = Callable[[Callable[[], Looked]], Awaitable[Looked]]


class RootLibrary(Protocol):
    """What is asked of the library."""

    def roots(self) -> list[RootStatus]: ...
    def add_root(self, path: Path, reserve_bytes: int) -> RootStatus: ...
    def set_root(self, root: int, reserve_bytes: int | None = None, *, active: bool | None = None) -> RootStatus: ...
    def remove_root(self, root: int) -> RootStatus: ...


class RootOperations:
    """The verbs over one library. Each looks at disks, which a worker thread may have to wait for."""

    def __init__(self, library: RootLibrary, in_worker: InWorker) -> None:
        self._library = library
        self._in_worker = in_worker

    async def roots(self) -> list[RootStatus]:
        """In the order in which they are filled."""
        found = await self._in_worker(self._library.roots)
        assert isinstance(found, list)
        return found

    async def add(self, path: Path, reserve_bytes: int) -> RootStatus:
        """Take another folder into use, from the next content on. Raises ContentError."""
        return await self._one("root added", lambda: self._library.add_root(path, reserve_bytes))

    async def change(self, root: int, reserve_bytes: int | None, active: bool | None) -> RootStatus:
        """Another reserve; or no new content, or new content again. Raises ContentError, ContentNotFound."""
        return await self._one("root changed", lambda: self._library.set_root(root, reserve_bytes, active=active))

    async def remove(self, root: int) -> RootStatus:
        """A root that was drained is one no more. Raises ContentError, ContentNotFound."""
        return await self._one("root removed", lambda: self._library.remove_root(root))

    async def _one(self, what: str, work: Callable[[], RootStatus]) -> RootStatus:
        status = await self._in_worker(work)
        assert isinstance(status, RootStatus)
        log.info(what, extra={"root": status.id, "path": status.path, "reserve_bytes": status.reserve_bytes})
        return status
