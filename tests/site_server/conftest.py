# SPDX-License-Identifier: Apache-2.0
"""A real NATS server, a connection to it, and what a site server keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.deployment.executions import begin, open_book, said
from tests.nats_server import NATS_SERVER, NatsServer
from tests.site_process import LoopbackSite, loopback_site
from tests.site_server.at_work import at_work

from dpd.bus.connection import BusConnection
from dpd.bus.link import Link
from dpd.bus_settings import BusSettings
from dpd.database import Database
from dpd.settings import Settings
from dpd.site_server.database import open_database

SITE = "lab"


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSite]:
    """A site server and two points, for tests that leave them as they were."""
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    home = tmp_path_factory.mktemp("site")
    write_books(home)
    with loopback_site(home, "hq", "b1") as site:
        yield site


def write_books(home: Path) -> None:
    """What was deployed at the points before they start: one failed, one was done, one is under way."""
    now = time.time()
    for point in ("hq", "b1"):
        (home / point).mkdir()
    hq, b1 = open_book(home / "hq", opened_at=now), open_book(home / "b1", opened_at=now)
    failed = begin(hq, "pc-1", at=now - 300)
    reports = [said(1, "2.2", "failed", "no EFI partition", at=now - 280), said(2, "", "sequence_failed", at=now - 280)]
    hq.take_reports(failed, reports, now - 280)
    done = begin(b1, "pc-1", at=now - 200)
    b1.take_reports(done, [said(1, "", "sequence_done", at=now - 100)], now - 100)
    b1.take_reports(begin(b1, "pc-2", at=now, deployment=8), [said(1, "2.1", "started", "by multicast", at=now)], now)


@pytest.fixture
def settings(nats: NatsServer) -> Settings:
    return Settings(bus=BusSettings(url=nats.url, site=SITE))


@pytest.fixture
async def link(settings: Settings) -> AsyncIterator[Link]:
    connection = BusConnection(settings.bus, name="test")
    async with at_work(connection.run([])):
        async with asyncio.timeout(30):
            await connection.connected.wait()
        assert connection.link is not None
        yield connection.link


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path)
    yield database
    database.close()
