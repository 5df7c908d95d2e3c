# SPDX-License-Identifier: Apache-2.0
"""The verbs about bundles: export and import as a stream, the list of what is here, and both as jobs of files that the daemon
reaches by itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from dpd.content.library import Library
from dpd.control.operations.job import JobOperations
from dpd.distribution.bundles import holdings
from dpd.distribution.bundles.bundle import Bundle
from dpd.distribution.bundles.holdings import NOTHING
from dpd.distribution.bundles.plan import choose, plan
from dpd.distribution.bundles.taking_in import BundleImport, Imported
from dpd.distribution.bundles.tar_stream import Read
from dpd.distribution.bundles.work import read_key, tell_imported
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, OptionValue
from dpd.telemetry.events import Value

log = logging.getLogger(__name__)

JobContext: TypeAlias = Callable[[], AbstractContextManager[None]]
InWorker: TypeAlias = Callable[..., Awaitable[Any]]


class Outlet(Protocol):
    """Where a bundle goes."""

    def write(self, piece: bytes | memoryview, /) -> None: ...
    def flush(self) -> None: ...


class BundleOperations:
    """The verbs over one library. `job` counts what a drain waits for, `trusted` gives the keys that may have signed a bundle;
    None: our own alone."""

    def __init__(
        self,
        library: Library,
        jobs: JobOperations,
        job: JobContext,
        in_worker: InWorker,
        trusted: Callable[[], Set[bytes]] | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._library = library
        self._jobs = jobs
        self._job = job
        self._in_worker = in_worker
        self._trusted = trusted or (lambda: {library.public_key()})
        self._tell = tell or _nobody

    async def holdings(self) -> bytes:
        """What is here, for who exports what is lacking here."""
        document: bytes = await self._in_worker(lambda: holdings.encode(holdings.holdings_of(self._library)))
        return document

    async def prepare(self, packages: Sequence[str], since: bytes) -> Bundle:
        """A bundle of these packages ("LAB00001:3" is version 3), all where there are none, without what the list `since` has.
        Raises ContentError, ContentNotFound, ContentCorrupt."""

        def prepared() -> Bundle:
            held = holdings.decode(since) if since else NOTHING
            return Bundle(self._library, plan(self._library, choose(self._library, packages), held))

        bundle: Bundle = await self._in_worker(prepared)
        return bundle

    async def write(self, bundle: Bundle, outlet: Outlet) -> None:
        """All of it, by calls of the outlet in a worker's thread. Raises ContentError, and what the outlet raises."""

        def written() -> None:
            bundle.write(outlet.write, self._library.unless_closing(_no_progress), _no_check)
            outlet.flush()

        with self._job():
            await self._in_worker(written)
        log.info("bundle exported", extra={"size_bytes": bundle.size_bytes})

    async def take(self, read: Read, key: str) -> Imported:
        """Take a bundle in that comes by calls of `read` in a worker's thread. Raises ContentError, ContentCorrupt, and
        Unavailable during maintenance."""
        self._jobs.refuse_new_content()
        keys = self._trusted() | read_key(key)
        with self._job():
            work = BundleImport(self._library, keys, self._library.unless_closing(_no_progress), _no_check)
            done: Imported = await self._in_worker(work.run, read)
        tell_imported(self._tell, done)
        for package_id in {content.package_id for content in done.contents}:
            await self._jobs.changed(package_id)
        log.info("bundle imported", extra={"contents": len(done.contents), "received_bytes": done.received_bytes})
        return done

    async def order_export(self, options: Mapping[str, OptionValue], actor: str) -> Job:
        """Export into a file or folder that the daemon may write to."""
        return await self._jobs.submit(JobOrder(JobKind.EXPORT, options=_given(options), actor=actor))

    async def order_import(self, options: Mapping[str, OptionValue], actor: str) -> Job:
        """Import a file that the daemon may read."""
        read_key(str(options["key"]))
        return await self._jobs.submit(JobOrder(JobKind.IMPORT, options=_given(options), actor=actor))


def _given(options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    return {name: value for name, value in options.items() if value}


def _nobody(event: str, fields: Mapping[str, Value]) -> None:
    """Listens."""


def _no_progress(done: int, total: int) -> None:
    """Whoever sends or receives counts for itself."""


def _no_check() -> None:
    """The library's closing ends it, by way of the progress."""
