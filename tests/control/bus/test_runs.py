# SPDX-License-Identifier: Apache-2.0
"""Required runs of several points: stores of their own over one real nats-server that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.bus.site_side import SITE, SiteSide, until
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.connection import BusConnection
from dpd.bus.subjects import run_key
from dpd.bus_settings import BusSettings
from dpd.control.bus.memory import BusMemory
from dpd.control.bus.runs import SharedRuns
from dpd.site.model import SiteModel
from dpd.site.records import Computer, Deployment, Purpose, Run
from dpd.site.store import SiteStore

pytestmark = needs_nats

MAC = "52:54:00:00:00:01"
MODEL = SiteModel(
    computers=(Computer("PC-1", (MAC,)), Computer("PC-2", ("52:54:00:00:00:02",))),
    deployments=(Deployment(1, "all", "", Purpose.REQUIRED), Deployment(2, "all", "", Purpose.REQUIRED)),
)


class Place:
    """A point with a store and a memory on disk; its bus only inside `joined`."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.store = SiteStore(folder / f"{name}.db")
        self.store.mirror(SITE, 1, MODEL, 1.0)
        self.memory = BusMemory(folder / f"{name}-bus.db")
        self.runs = SharedRuns(self.store, self.memory, SITE, name, is_mirror=True)
        self._settings = BusSettings(url=url)
        self._name = name

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        connection = BusConnection(self._settings, name=self._name)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(connection.run([self.runs.attend]))
            yield
            running.cancel()

    def find(self, machine: str = "pc-1") -> Run | None:
        return self.store.runs.find(1, machine)

    def close(self) -> None:
        self.store.close()
        self.memory.close()


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def site(hub: NatsServer) -> AsyncIterator[SiteSide]:
    async with SiteSide(hub.url) as site:
        yield site


@pytest.fixture
def places(tmp_path: Path, hub: NatsServer) -> Iterator[tuple[Place, Place]]:
    one, other = Place(tmp_path, "one", hub.url), Place(tmp_path, "other", hub.url)
    yield one, other
    one.close()
    other.close()


async def test_what_one_point_gave_the_other_knows_and_when_it_was_finished(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        assert await until(other.find, "the run at the other") == Run(1, "pc-1", MAC, 100.0)
        other.store.runs.finish(1, "pc-1", 160.0)
        await until(lambda: one.find() == Run(1, "pc-1", MAC, 100.0, 160.0), "its end at the one")
    assert (await site.runs())[1, "pc-1"].point == "other"
    assert other.store.runs.started_since(0.0) == 0  # no boot of its own brake


async def test_what_happened_while_they_did_not_hear_of_each_other_comes_together(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    one, other = places
    one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
    other.store.runs.start(Run(1, "pc-1", MAC, 130.0))
    other.store.runs.start(Run(1, "pc-2", MAC, 90.0))
    async with one.joined():
        await until(lambda: site.runs(), "the first one's")
    async with other.joined():
        await until(lambda: one_is(site, 130.0), "the later one's")
    async with one.joined():
        await until(lambda: one.find() == Run(1, "pc-1", MAC, 130.0) and one.find("pc-2"), "both at the one")


async def one_is(site: SiteSide, started_at: float) -> bool:
    runs = await site.runs()
    return (1, "pc-1") in runs and runs[1, "pc-1"].started_at == started_at


async def test_a_clear_reaches_everybody_also_when_it_was_said_without_a_bus_and_before_a_restart(
    site: SiteSide, places: tuple[Place, Place], tmp_path: Path, hub: NatsServer
) -> None:
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        await until(other.find, "the run at the other")
    one.store.runs.clear(1, "pc-1", "anna")
    one.close()
    again = Place(tmp_path, "one", hub.url)
    async with again.joined(), other.joined():
        await until(lambda: other.find() is None, "the clear at the other")
        await until(lambda: not again.memory.clears(), "the clear to be told")
        assert again.find() is None
        other.store.runs.start(Run(1, "pc-1", MAC, 300.0))
        assert await until(again.find, "the next run") == Run(1, "pc-1", MAC, 300.0)
    again.close()


async def test_a_clear_that_a_kill_left_half_done_is_carried_out(site: SiteSide, places: tuple[Place, Place]) -> None:
    """Written down, but the run is still in the store."""
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        await until(other.find, "the run at the other")
    one.memory.note_clears([Run(1, "pc-1", MAC, 100.0)])
    async with one.joined(), other.joined():
        await until(lambda: one.find() is None and other.find() is None, "the clear")


async def test_a_store_that_lost_its_runs_gets_them_back_and_clears_nothing(site: SiteSide, places: tuple[Place, Place], tmp_path: Path, hub: NatsServer) -> None:  # fmt: skip
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        await until(other.find, "the run at the other")
    fresh = Place(tmp_path, "fresh", hub.url)
    async with fresh.joined(), other.joined():
        await until(fresh.find, "the run at a new disk")
    one.store.release("anna")
    one.store.mirror(SITE, 1, MODEL, 2.0)  # deployments were deleted on the way, and their runs with them
    assert one.find() is None
    async with one.joined():
        await until(one.find, "the run back at the one")
    assert other.find() is not None
    fresh.close()


async def test_a_point_with_a_policy_of_its_own_neither_tells_nor_takes(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    one, other = places
    one.store.release("anna")
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        one.store.runs.clear(1, "pc-1", "anna")
        other.store.runs.start(Run(1, "pc-2", MAC, 100.0))
        await until(lambda: site.runs(), "the other's run")
        one.store.runs.start(Run(2, "pc-1", MAC, 100.0))  # makes the one look
        await asyncio.sleep(1.5)
        assert set(await site.runs()) == {(1, "pc-2")}
    assert one.find("pc-2") is None
    assert one.memory.clears() == []


async def test_rubbish_on_the_bus_hinders_no_other_run_and_is_replaced(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    one, other = places
    await site.put(site.subjects.runs_bucket, run_key(1, "pc-1"), b"{broken")
    await site.put(site.subjects.runs_bucket, "not-a-run", b"x")
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        one.store.runs.start(Run(1, "pc-2", MAC, 100.0))
        await until(lambda: other.find() and other.find("pc-2"), "both runs at the other")


async def test_two_that_tell_of_the_same_run_at_once_come_to_the_same(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    one, other = places
    async with one.joined(), other.joined():
        for number in range(20):
            one.store.runs.start(Run(1, f"pc-{number}", MAC, 100.0 + number % 2))
            other.store.runs.start(Run(1, f"pc-{number}", MAC, 100.5))
        await until(lambda: all(one.find(f"pc-{n}") == other.find(f"pc-{n}") for n in range(20)), "the same at both")
        later = {n: 101.0 if n % 2 else 100.5 for n in range(20)}
        assert {n: run.started_at for n in range(20) if (run := one.find(f"pc-{n}"))} == later


async def test_runs_come_through_while_the_server_is_killed_and_started(site: SiteSide, places: tuple[Place, Place], hub: NatsServer) -> None:  # fmt: skip
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 100.0))
        await until(other.find, "the first run")
        hub.kill()
        one.store.runs.start(Run(1, "pc-2", MAC, 100.0))
        hub.start()
        await until(lambda: other.find("pc-2"), "the second run")


async def test_a_run_after_a_clear_holds_also_where_the_clock_was_put_back(site: SiteSide, places: tuple[Place, Place]) -> None:  # fmt: skip
    """Else the machine would be given it again at each boot, until the clock has caught up."""
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 9000.0))
        await until(other.find, "the run at the other")
        one.store.runs.clear(1, "pc-1", "anna")
        await until(lambda: other.find() is None, "the clear at the other")
        other.store.runs.start(Run(1, "pc-1", MAC, 200.0))
        other.store.runs.finish(1, "pc-1", 230.0)
        run = await until(one.find, "the next run at the one")
        assert run == other.find()
        assert run.finished_at
    assert other.store.runs.started_since(300.0) == 0  # the brake goes by the clock as it is


@pytest.mark.parametrize("clearing", ["one", "other"])
async def test_a_run_after_a_clear_holds_also_where_the_point_was_restarted_while_the_bus_was_away(
    site: SiteSide, places: tuple[Place, Place], tmp_path: Path, hub: NatsServer, clearing: str
) -> None:
    """The clock was put back, and the bus that knows of the clear cannot be asked: else its word would take the run away."""
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 9000.0))
        await until(other.find, "the run at the other")
        (one if clearing == "one" else other).store.runs.clear(1, "pc-1", "anna")
        await until(lambda: one.find() is None and other.find() is None, "the clear at both")
        await until(lambda: not one.memory.clears(), "the bus has heard")
        await until(lambda: one.memory.cleared() == {(1, "pc-1"): 9000.0}, "and it is remembered")
    hub.kill()
    one.close()
    again = Place(tmp_path, "one", hub.url)
    again.store.runs.start(Run(1, "pc-1", MAC, 200.0))
    hub.start()
    async with again.joined(), other.joined():
        given = await until(other.find, "the run at the other")
        assert given == again.find()
    again.close()


async def test_another_run_holds_also_where_the_clock_was_put_back(site: SiteSide, places: tuple[Place, Place]) -> None:
    one, other = places
    async with one.joined(), other.joined():
        one.store.runs.start(Run(1, "pc-1", MAC, 9000.0))
        one.store.runs.finish(1, "pc-1", 9060.0)
        await until(lambda: (run := other.find()) and run.finished_at, "its end at the other")
        other.store.runs.start(Run(1, "pc-1", MAC, 200.0), again=True)
        await until(lambda: (run := one.find()) and not run.finished_at, "the rerun at the one")
        assert one.find() == other.find()
