# SPDX-License-Identifier: Apache-2.0
"""The whole of the bus at a point: real operations, a real nats-server, and a leaf node."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.bus.site_side import SITE, SiteSide, until
from tests.control.jobs import Door
from tests.nats_server import HUB_DOMAIN, NatsServer, needs_nats

from dpd.bus_settings import BusSettings
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.api.application import make_application
from dpd.control.bus.point import PointBus, _content_url
from dpd.control.bus.status import READER
from dpd.control.operations.verbs import Operations, ServiceStatus
from dpd.errors import SettingsError
from dpd.settings import Settings
from dpd.site.model import SiteModel
from dpd.site.policy import BootPolicy
from dpd.site.records import Computer, SiteConflict
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.metrics import MetricsRegistry
from dpd.telemetry.spool import Spool

MODEL = SiteModel(computers=(Computer("PC-1", ("52:54:00:00:00:01",)),))


class Place:
    """A point without listeners, whose bus runs only inside `joined`."""

    def __init__(self, settings: Settings, library: Library, folder: Path) -> None:
        self.folder = folder
        self.door = Door(settings, library, folder)
        self.store = SiteStore(folder / "site.db")
        self.spool = Spool(folder / "messages.db", readers=(READER,))
        self.events = EventLog(spool=self.spool)
        self.operations = Operations(
            settings,
            library=library,
            boot_files=BootFiles(folder / "boot"),
            journal=BootJournal(),
            services=[],
            multicast=None,
            policy=BootPolicy(settings, store=self.store),
            distribution=self.door.distribution,
            events=self.events,
        )

    def bus(self, settings: BusSettings) -> PointBus:
        return PointBus(settings, self.folder, self.operations, self.store, self.events, self.spool)

    @asynccontextmanager
    async def joined(self, settings: BusSettings) -> AsyncIterator[PointBus]:
        bus = self.bus(settings)
        async with AsyncExitStack() as stack:
            await bus.open(stack, partial(make_application, self.operations))
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(bus.run())
                yield bus
                running.cancel()

    def close(self) -> None:
        self.operations.close()
        self.spool.close()
        self.store.close()


@pytest.fixture
def place(settings: Settings, library: Library, tmp_path: Path) -> Iterator[Place]:
    place = Place(settings, library, tmp_path)
    yield place
    place.close()


def settings_of(server: NatsServer, **more: str) -> BusSettings:
    return BusSettings(url=server.url, site=SITE, point="p1", **more)  # type: ignore[arg-type]


class TestWithAServer:
    pytestmark = needs_nats

    async def test_a_point_says_that_it_is_there_follows_and_tells_how_it_stands(self, place: Place, tmp_path: Path) -> None:  # fmt: skip
        with NatsServer(tmp_path / "nats") as hub:
            async with SiteSide(hub.url) as site, place.joined(settings_of(hub)) as bus:
                assert _content_url([ServiceStatus("http", {"http": 8080, "https": 8443}, {})]).endswith(":8080")
                hello = (await until(lambda: site.hellos, "a hello"))[0]
                assert (hello.point, hello.site, hello.policy_version, hello.epoch) == (
                    "p1",
                    SITE,
                    0,
                    place.spool.epoch,
                )
                await site.publish(MODEL, 4)
                await until(lambda: place.operations.bus.status().policy_version == 4, "the policy")
                place.events.note("maintenance.on", reason="test")
                await until(lambda: place.spool.flush(30) and bus.status().status_backlog == 0, "all shipped")
                status, text = await site.ask("p1", "GET", "/v1/bus")
                told = json.loads(text)
                assert (status, told["state"], told["policy_version"], told["point"]) == (200, "connected", 4, "p1")
                with pytest.raises(SiteConflict, match=r"this point follows site lab by bus\.url"):
                    place.operations.site.model.release("anna")
                assert told["status_confirmed"] == told["status_latest"] > 0
                registry = MetricsRegistry()
                bus.add_metrics(registry)
                page = registry.render().decode()
        for line in ("dpd_bus_connected 1.0", "dpd_bus_policy_version 4.0", "dpd_bus_status_backlog 0.0", "dpd_bus_policy_age_seconds "):  # fmt: skip
            assert f"\n{line}" in page

    async def test_a_point_behind_a_leaf_follows_and_is_asked_through_it(self, place: Place, tmp_path: Path) -> None:
        with (
            NatsServer(tmp_path / "nats", domain=HUB_DOMAIN) as hub,
            NatsServer(tmp_path / "nats", name="branch", domain="branch", leaf_of=hub.leaf_url) as leaf,
        ):
            async with SiteSide(hub.url, leaf_domains=("branch",)) as site:
                await site.publish(MODEL, 2)
                async with place.joined(settings_of(leaf, domain="branch")) as bus:
                    await until(lambda: bus.status().policy_version == 2, "the policy through the mirror")
                    await until(lambda: site.hellos, "a hello through the leaf")
                    assert (await site.ask("p1", "GET", "/v1/bus"))[0] == 200
                    place.events.note("maintenance.on", reason="test")
                    await until(lambda: _has(site, "maintenance.on"), "its message at the hub")
                    assert {each.point for each in await site.statuses()} == {"p1"}

    async def test_a_fault_in_a_part_ends_neither_the_others_nor_dpd(self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
        monkeypatch.setattr("dpd.control.bus.point.FAULT_PAUSE_S", 0.05)
        falls: list[int] = []

        async def fall() -> None:
            falls.append(1)
            raise RuntimeError("a bug")

        with NatsServer(tmp_path / "nats") as hub:
            async with SiteSide(hub.url) as site:
                bus = place.bus(settings_of(hub))
                bus._desired.follow = fall  # type: ignore[method-assign]
                async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                    await bus.open(stack, partial(make_application, place.operations))
                    running = tasks.create_task(bus.run())
                    await until(lambda: len(falls) > 2 and site.hellos, "faults and a hello")
                    running.cancel()
        assert "a part of the bus failed" in caplog.text


async def _has(site: SiteSide, event: str) -> bool:
    return event in [each.event for each in await site.statuses()]


async def test_without_a_server_it_is_away_and_says_why(place: Place) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{closed.getsockname()[1]}"
    async with place.joined(BusSettings(url=url, site=SITE, point="p1")):
        await until(lambda: "Connect call failed" in place.operations.bus.status().trouble, "the reason")
        assert place.operations.bus.status().state == "away"


def test_a_point_without_a_name_has_its_hosts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "branch-7.example.org")
    assert place.bus(BusSettings(url="nats://127.0.0.1:1")).point == "branch-7"


def test_a_host_whose_name_cannot_be_a_points_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ümlaut")
    with pytest.raises(SettingsError, match=r"set bus\.point to"):
        place.bus(BusSettings(url="nats://127.0.0.1:1"))
