# SPDX-License-Identifier: Apache-2.0
"""The control API over a real distribution at a Unix socket, in a thread, with another place to pull from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.control.jobs import Door

from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import ControlSettings, DaemonSettings, Settings


@contextmanager
def job_door(directory: Path) -> Iterator[Door]:
    """It listens until the end of the block."""
    settings = Settings(
        daemon=DaemonSettings(state_dir=str(directory)), control=ControlSettings(socket=str(directory / "control.sock"))
    )
    ready, ending = threading.Event(), threading.Event()

    async def serve(door: Door) -> None:
        async with door.open(directory):
            ready.set()
            await asyncio.to_thread(ending.wait)

    with Library(directory / "library", slab_bytes=SLAB_BYTES) as library:
        door = Door(settings, library, directory)
        thread = threading.Thread(target=lambda: asyncio.run(serve(door)))
        thread.start()
        assert ready.wait(30)
        try:
            yield door
        finally:
            ending.set()
            thread.join()
