# SPDX-License-Identifier: Apache-2.0
"""What the site wants a point to hold: a real library with its jobs, and a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.bus.site_side import SITE, SiteSide, until
from tests.control.jobs import Door
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.connection import BusConnection
from dpd.bus.messages import Desired, DesiredPackage
from dpd.bus_settings import BusSettings
from dpd.content.library import Library
from dpd.control.bus import desired as bus_desired
from dpd.control.bus.desired import DesiredContent
from dpd.control.bus.memory import BusMemory
from dpd.control.operations.job import JobOperations
from dpd.settings import Settings

pytestmark = needs_nats


def wanted(*packages: tuple[str, int | None]) -> Desired:
    return Desired([DesiredPackage(*package) for package in packages])


class Place:
    """A point's library and its jobs, with the site's wishes followed."""

    def __init__(self, door: Door, memory: BusMemory) -> None:
        self.door = door
        jobs = JobOperations(door.distribution, asyncio.to_thread, lambda: None)
        self.desired = DesiredContent(jobs, memory, SITE, "p1")

    def held(self) -> set[tuple[str, int]]:
        return self.door.library.versions()

    def actors(self) -> set[str]:
        return {job.actor for job in self.door.distribution.desk.ended(None, 100)}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[SiteSide]:
    with NatsServer(tmp_path / "nats") as hub:
        async with SiteSide(hub.url) as site:
            site.url = hub.url  # type: ignore[attr-defined]
            yield site


@pytest.fixture
async def place(
    settings: Settings, library: Library, tmp_path: Path, site: SiteSide, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr(bus_desired, "LOOK_S", 0.2)
    door = Door(settings, library, tmp_path)
    door.place.has = {"A": {1: b"a1" * 600, 2: b"a2" * 600}, "B": {1: b"b1" * 600}}
    memory = BusMemory(tmp_path / "bus.db")
    async with door.open(tmp_path):
        place = Place(door, memory)
        connection = BusConnection(BusSettings(url=site.url), name="point")  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(connection.run([place.desired.attend])),
                tasks.create_task(place.desired.follow()),
            ]
            yield place
            for task in running:
                task.cancel()
    memory.close()


async def test_what_is_wanted_comes_and_what_is_not_any_more_goes(site: SiteSide, place: Place) -> None:
    await site.desire("p1", wanted(("A", None), ("B", 1)))
    await until(lambda: place.held() == {("A", 2), ("B", 1)}, "both packages")
    await until(lambda: place.desired.stats.missing == 0, "nothing missing")
    await site.desire("p1", wanted(("B", 1)))
    await until(lambda: place.held() == {("B", 1)}, "only the second")
    assert place.actors() == {"site lab"}


async def test_another_version_comes_before_the_one_it_replaces_goes(site: SiteSide, place: Place) -> None:
    await site.desire("p1", wanted(("A", 1)))
    await until(lambda: place.held() == {("A", 1)}, "version 1")
    await site.desire("p1", wanted(("A", 2)))
    await until(lambda: place.held() == {("A", 2)}, "version 2 alone")


async def test_what_the_site_never_spoke_of_stays(site: SiteSide, place: Place, tmp_path: Path) -> None:
    own = tmp_path / "own.bin"
    own.write_bytes(b"own" * 500)
    await asyncio.to_thread(place.door.library.publish, own, "OWN", 1)
    await site.desire("p1", wanted(("A", 2)))
    await until(lambda: ("A", 2) in place.held(), "the package")
    await site.desire("p1", wanted())
    await until(lambda: ("A", 2) not in place.held(), "its removal")
    assert place.held() == {("OWN", 1)}


async def test_what_an_operator_takes_out_though_it_is_wanted_comes_again(site: SiteSide, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(bus_desired, "FAILED_PAUSE_S", 0.0)
    await site.desire("p1", wanted(("B", 1)))
    await until(lambda: place.held() == {("B", 1)}, "the package")
    await asyncio.to_thread(place.door.library.remove, "B")
    await until(lambda: place.held() == {("B", 1)}, "the package again")


async def test_what_no_source_has_is_missing_and_hinders_no_other(site: SiteSide, place: Place) -> None:
    await site.desire("p1", wanted(("NONE", None), ("B", None)))
    await until(lambda: place.held() == {("B", 1)}, "the package that there is")
    await until(lambda: place.desired.stats.missing == 1, "one missing")
    assert len(place.door.distribution.desk.open_jobs()) == 1  # not one more with each look


async def test_other_points_and_rubbish_change_nothing(site: SiteSide, place: Place) -> None:
    await site.desire("p2", wanted(("A", None)))
    await site.put(site.subjects.desired_bucket, "p1", b"rubbish")
    await asyncio.sleep(0.5)
    assert place.held() == set()
    await site.desire("p1", wanted(("B", None)))
    await until(lambda: place.held() == {("B", 1)}, "what is sound")
