# SPDX-License-Identifier: Apache-2.0
"""A real nats-server, and links to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.nats_server import NatsServer

from dpd.bus.connection import BusConnection
from dpd.bus.link import Link
from dpd.bus.subjects import SITE_SERVER
from dpd.bus_settings import BusSettings

Linked = Callable[..., AbstractAsyncContextManager[Link]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@asynccontextmanager
async def linked(url: str, *, who: str = SITE_SERVER, **settings: str) -> AsyncIterator[Link]:
    """A link, as long as the block lasts."""
    connection = BusConnection(BusSettings(url=url, **settings), name="test", who=who)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(connection.run([]))
        async with asyncio.timeout(30):
            await connection.connected.wait()
        assert connection.link is not None
        yield connection.link
        running.cancel()


@pytest.fixture
async def link(hub: NatsServer) -> AsyncIterator[Link]:
    async with linked(hub.url) as link:
        yield link
