# SPDX-License-Identifier: Apache-2.0
"""Operations over a real book of deployments, and their API on a Unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.deployment.opening import OpenDeployments
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import ControlSettings, DaemonSettings, Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal


class Deploying:
    """A distribution point whose machines are whoever writes into its book."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings = Settings(
            daemon=DaemonSettings(state_dir=str(folder)), control=ControlSettings(socket=str(folder / "control.sock"))
        )
        self.library = Library(folder / "library", slab_bytes=SLAB_BYTES)
        self.events = EventLog()
        self.deployments = OpenDeployments(self.settings, self.library, folder, self.events)
        self.book = self.deployments.book

    @asynccontextmanager
    async def open(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of its API."""
        self.operations = Operations(
            self.settings,
            library=self.library,
            boot_files=BootFiles(self.folder / "boot"),
            journal=BootJournal(),
            services=[],
            multicast=None,
            deployments=self.deployments,
            events=self.events,
        )
        listener = ControlListener(self.settings.control, partial(make_application, self.operations))
        await listener.start()
        connector = aiohttp.UnixConnector(self.settings.control.socket)
        try:
            async with aiohttp.ClientSession("http://dpd", connector=connector) as client:
                yield client
        finally:
            await listener.stop()
            self.operations.close()
            self.deployments.stop()
            self.library.close()
