# SPDX-License-Identifier: Apache-2.0
"""The control API over a real policy at a Unix socket, in a thread: so that a test can let machines ask beside the commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import ControlSettings, DaemonSettings, PxeSettings, Settings
from dpd.site.decision import BootRequest, Decision
from dpd.site.policy import BootPolicy
from dpd.telemetry.journal import BootJournal


class SiteDoor:
    """A policy under which unknown machines wait, and its socket."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(
            daemon=DaemonSettings(state_dir=str(directory)),
            pxe=PxeSettings(unknown_computers="pending"),
            control=ControlSettings(socket=str(directory / "control.sock")),
        )
        self.policy = BootPolicy(self.settings)
        self._directory = directory

    def ask(self, mac: str) -> Decision:
        """A machine asks and is answered."""
        request = BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", relay="10.1.0.1", circuit="0102")
        decision = self.policy.decide(request)
        if decision.boots:
            self.policy.issue(request, decision)
        return decision

    @contextmanager
    def open(self) -> Iterator[SiteDoor]:
        """The API listens."""
        ready, ending = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready, ending)))
        thread.start()
        assert ready.wait(30)
        try:
            yield self
        finally:
            ending.set()
            thread.join()
            self.policy.store.close()

    async def _serve(self, ready: threading.Event, ending: threading.Event) -> None:
        with Library(self._directory / "library", slab_bytes=SLAB_BYTES) as library:
            operations = Operations(
                self.settings,
                library=library,
                boot_files=BootFiles(self._directory / "boot"),
                journal=BootJournal(),
                services=[],
                multicast=None,
                policy=self.policy,
            )
            listener = ControlListener(self.settings.control, partial(make_application, operations))
            await listener.start()
            ready.set()
            await asyncio.to_thread(ending.wait)
            await listener.stop()
            operations.close()
