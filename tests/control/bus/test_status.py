# SPDX-License-Identifier: Apache-2.0
"""Status messages on their way to the site: a real spool, a real nats-server that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.bus.site_side import SITE, SiteSide, until
from tests.line import Line
from tests.nats_server import NatsServer, needs_nats

from dpd.bus import connection as connecting
from dpd.bus.connection import BusConnection
from dpd.bus.link import Link
from dpd.bus_settings import BusSettings
from dpd.control.bus.status import READER, StatusShipper
from dpd.telemetry.spool import Spool

pytestmark = needs_nats


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "messages.db", readers=(READER,))
    yield spool
    spool.close()


@asynccontextmanager
async def shipping(spool: Spool, hub: NatsServer, port: int = 0) -> AsyncIterator[BusConnection]:
    """`port`: of a line to the hub."""
    shipper = StatusShipper(spool, SITE, "p1", behind_leaf=False)
    connection = BusConnection(BusSettings(url=f"nats://127.0.0.1:{port or hub.port}"), name="point")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(connection.run([shipper.attend]))
        yield connection
        running.cancel()


def put(spool: Spool, first: int, last: int) -> None:
    for number in range(first, last + 1):
        spool.put("job.done", {"job": number})
    assert spool.flush(30)


async def _link_of(connection: BusConnection) -> Link:
    link: Link = await until(lambda: connection.link, "a link")
    return link


def _has_passed(spool: Spool, sequence: int) -> bool:
    return spool.confirmed(READER) > sequence


async def shipped(site: SiteSide) -> list[int]:
    return [int(each.fields["job"]) for each in await site.statuses()]


async def test_all_come_in_order_and_are_confirmed_when_the_stream_has_them(spool: Spool, hub: NatsServer) -> None:
    put(spool, 1, 450)
    async with SiteSide(hub.url) as site, shipping(spool, hub):
        await until(lambda: spool.confirmed(READER) == 450, "the first ones confirmed")
        put(spool, 451, 452)
        await until(lambda: spool.confirmed(READER) == 452, "news confirmed")
        assert await shipped(site) == list(range(1, 453))
        report = (await site.statuses())[0]
    assert (report.point, report.epoch, report.sequence) == ("p1", spool.epoch, 1)
    assert (report.event, report.message_id, report.severity) == ("job.done", 2004, "info")


async def test_nothing_is_confirmed_as_long_as_no_stream_takes_it(spool: Spool, hub: NatsServer) -> None:
    put(spool, 1, 3)
    async with shipping(spool, hub) as connection:
        await until(lambda: connection.stats.failures, "a failure")
        assert spool.confirmed(READER) == 0
        async with SiteSide(hub.url) as site:
            await until(lambda: spool.confirmed(READER) == 3, "all confirmed")
            assert await shipped(site) == [1, 2, 3]


async def test_a_server_killed_and_started_under_load_loses_and_repeats_nothing(spool: Spool, hub: NatsServer) -> None:
    async with SiteSide(hub.url) as site, shipping(spool, hub):
        for turn in range(4):
            put(spool, 1 + 500 * turn, 500 * (turn + 1))
            await until(partial(_has_passed, spool, 500 * turn), "some of this turn")
            hub.kill()
            hub.start()
        await until(lambda: spool.confirmed(READER) == 2000, "all confirmed")
        names = [each.name for each in await site.statuses()]
    assert len(names) == len(set(names)) == 2000


async def test_a_line_that_swallows_what_was_sent_loses_and_repeats_nothing(spool: Spool, hub: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """What was sent into the cut line, and what was acknowledged into it, is sent again."""
    monkeypatch.setattr(connecting, "PING_INTERVAL_S", 0.3)
    async with SiteSide(hub.url) as site:
        with Line(("127.0.0.1", hub.port)) as line:
            async with shipping(spool, hub, line.port) as connection:
                put(spool, 1, 100)
                await until(lambda: spool.confirmed(READER) == 100, "the first ones")
                for turn in range(1, 4):
                    link = await _link_of(connection)
                    put(spool, 1 + 100 * turn, 100 * turn + 50)
                    line.cut()
                    put(spool, 100 * turn + 51, 100 * (turn + 1))
                    await until(link.broken.is_set, "the loss")
                    line.mend()
                    await until(partial(_has_passed, spool, 100 * (turn + 1) - 1), "the rest")
        assert sorted(await shipped(site)) == list(range(1, 401))


async def test_a_shipper_that_did_not_hear_of_its_acks_sends_again_and_the_stream_keeps_one(spool: Spool, hub: NatsServer, tmp_path: Path) -> None:  # fmt: skip
    put(spool, 1, 50)
    async with SiteSide(hub.url) as site:
        async with shipping(spool, hub):
            await until(lambda: spool.confirmed(READER) == 50, "all confirmed")
        spool.close()
        (tmp_path / "copy.db").write_bytes((tmp_path / "messages.db").read_bytes())
        forgetful = Spool(tmp_path / "copy.db", readers=("another",))  # which forgets what READER had
        assert forgetful.epoch == spool.epoch
        async with shipping(forgetful, hub):
            await until(lambda: forgetful.confirmed(READER) == 50, "all confirmed once more")
        assert await shipped(site) == list(range(1, 51))
        forgetful.close()


async def test_the_backlog_is_what_the_site_does_not_have(spool: Spool, hub: NatsServer) -> None:
    shipper = StatusShipper(spool, SITE, "p1", behind_leaf=False)
    assert shipper.backlog == 0
    put(spool, 1, 7)
    assert shipper.backlog == 7
    spool.confirm(READER, 5)
    assert shipper.backlog == 2
