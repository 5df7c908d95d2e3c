# SPDX-License-Identifier: Apache-2.0
"""Several dpds on loopback, each with a real HTTP service and a real library, that pull from one another."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.distribution.origin import Site

from dpd.content.boot_files import BootFiles
from dpd.content_settings import SourceSettings
from dpd.distribution.pulling.fetch_on_miss import FetchOnMiss
from dpd.errors import Unavailable
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings
from dpd.telemetry.journal import BootJournal


class Dpd:
    """One of them. Jobs are threads that pull; `closed` and `refuses` are its maintenance."""

    def __init__(self, folder: Path, sources: tuple[SourceSettings, ...], **keys: Any) -> None:
        self.site = Site(folder, sources, stall_timeout_s=5.0, **keys)
        self.closed = self.refuses = ""
        self.submitted: list[tuple[str, int | None]] = []
        self.fetch = FetchOnMiss(self.site.puller, self._submit)
        self._threads: list[threading.Thread] = []
        (folder / "boot").mkdir(exist_ok=True)
        journal = BootJournal()
        self.service = HttpService(
            HttpSettings(listen="127.0.0.1", port=0, tls_port=0),
            library=self.site.library,
            boot_tree=BootTree(BootFiles(folder / "boot"), journal),
            multicast=None,
            journal=journal,
            fetch=self.fetch,
            closed=lambda: self.closed,
        )
        self.journal = journal

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.ports['http']}"

    def _submit(self, package_id: str, source_version: int | None, via: tuple[str, ...]) -> None:
        if self.refuses:
            raise Unavailable(self.refuses)
        self.submitted.append((package_id, source_version))

        def pull() -> None:
            try:
                self.site.pull(package_id, source_version, via)
            except Exception as error:
                self.site.told.append(("job.failed", {"error": str(error)}))

        self._threads.append(threading.Thread(target=pull))
        self._threads[-1].start()

    async def ask(
        self, path: str, *, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        return await asyncio.to_thread(self._ask, path, method, headers)

    def _ask(self, path: str, method: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.service.ports["http"], timeout=20)
        try:
            client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = client.getresponse()
            return response.status, response.headers, response.read()
        finally:
            client.close()

    async def close(self) -> None:
        await self.service.stop()
        self.fetch.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 20)
        self.site.close()


@asynccontextmanager
async def opened_dpd(folder: Path, *sources: SourceSettings, **keys: Any) -> AsyncIterator[Dpd]:
    dpd = Dpd(folder, sources, **keys)
    await dpd.service.start()
    try:
        yield dpd
    finally:
        await dpd.close()
