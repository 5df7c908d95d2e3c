# SPDX-License-Identifier: Apache-2.0
"""A distribution behind the API, with its own threads and another place to pull from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
from tests.distribution.contents import OtherPlace

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.distribution.database import open_database
from dpd.distribution.distribution import Distribution, Means
from dpd.distribution.jobs.events import tell_to
from dpd.distribution.jobs.job import JobKind
from dpd.distribution.jobs.run import JobRun, Work
from dpd.settings import Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal


class Gated:
    """Work that reports half of itself and then waits until it is let through, or told to stop."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, run: JobRun) -> None:
        run.progress(50, 100)
        run.say("halfway")
        while not self.open.is_set():
            run.wait(0.01)


class Door:
    """What a test of jobs holds: `place` may be given packages to have."""

    def __init__(self, settings: Settings, library: Library, tmp_path: Path) -> None:
        self.settings = settings
        self.library = library
        self.place = OtherPlace(library, tmp_path)
        self.gated = Gated()
        self.events = EventLog()
        works: Mapping[JobKind, Work] = {JobKind.VALIDATE: self.gated}
        database = open_database(tmp_path / "distribution.db")
        means = Means(self.place, self.place, works, tell_to(self.events))
        self.distribution = Distribution(settings, library, database, means)

    @asynccontextmanager
    async def open(self, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
        operations = Operations(
            self.settings,
            library=self.library,
            boot_files=BootFiles(tmp_path / "boot"),
            journal=BootJournal(),
            services=[],
            multicast=None,
            distribution=self.distribution,
            events=self.events,
        )
        listener = ControlListener(self.settings.control, partial(make_application, operations))
        await listener.start()
        self.distribution.start()
        connector = aiohttp.UnixConnector(self.settings.control.socket)
        async with aiohttp.ClientSession("http://dpd", connector=connector) as client:
            yield client
        await listener.stop()
        await asyncio.to_thread(self.distribution.stop)
        operations.close()
