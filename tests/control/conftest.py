# SPDX-License-Identifier: Apache-2.0
"""Operations over a real library and real services on loopback, and the API on a real Unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.multicast.service import MulticastService
from dpd.settings import ControlSettings, DaemonSettings, MulticastSettings, Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.spool import Spool


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        daemon=DaemonSettings(state_dir=str(tmp_path)),
        multicast=MulticastSettings(interface="lo", ttl=0),
        control=ControlSettings(socket=str(tmp_path / "control.sock")),
    )


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        yield library


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "messages.db")) as spool:
        yield spool


@pytest.fixture
async def operations(
    settings: Settings, library: Library, journal: BootJournal, spool: Spool, tmp_path: Path
) -> AsyncIterator[Operations]:
    multicast = MulticastService(settings.multicast, library=library, epoch=1, events=EventLog(spool=spool))
    await multicast.start()
    operations = Operations(
        settings,
        library=library,
        boot_files=BootFiles(tmp_path / "boot"),
        journal=journal,
        services=[multicast],
        multicast=multicast,
        config_path=tmp_path / "dpd.toml",
    )
    yield operations
    await multicast.stop()
    operations.close()


@pytest.fixture
async def api(settings: Settings, operations: Operations) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the API's Unix socket."""
    listener = ControlListener(settings.control, partial(make_application, operations))
    await listener.start()
    connector = aiohttp.UnixConnector(settings.control.socket)
    async with aiohttp.ClientSession("http://dpd", connector=connector) as client:
        yield client
    await listener.stop()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Two slabs, the second one short."""
    path = tmp_path / "lab.img"
    path.write_bytes(bytes(range(256)) * ((SLAB_BYTES + 1000) // 256))
    return path
