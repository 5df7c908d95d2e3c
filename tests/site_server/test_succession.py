# SPDX-License-Identifier: Apache-2.0
"""Two site servers of one site on a real NATS server: the second one goes on where the first one left off, and loses nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bus.site_side import until
from tests.nats_server import NatsServer
from tests.site_process import SiteServerProcess
from tests.site_server.at_work import at_work

from dpd.bus.link import Link
from dpd.bus.subjects import ESTATE, LEASE, Subjects
from dpd.cli.client import Client, RefusedByDaemon
from dpd.settings import Settings
from dpd.site.model import SiteModel
from dpd.site.records import Computer, Deployment, Point, Purpose
from dpd.site.store import SiteStore
from dpd.site_server.assignments import Assignments
from dpd.site_server.database import open_database
from dpd.site_server.layout import ensure_bucket, ensure_layout
from dpd.site_server.lease import SuccessionRefused
from dpd.site_server.points import Points
from dpd.site_server.publisher import Publisher
from dpd.site_server.succession import Succession

SUBJECTS = Subjects("lab")
POINTS = [Point("hq")]


class Server:
    """The parts of a site server that another one takes over, and what tells points of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.store = SiteStore(folder / "site.db")
        self.database = open_database(folder)
        self.assignments = Assignments(self.database, Points(self.database, lambda: POINTS, lambda: 0), "lab")
        self.succession = Succession(self.store, self.database, self.assignments, "lab")
        self.publisher = Publisher(self.store, "lab", note_out=self.succession.note_out)

    async def steer(self, link: Link) -> None:
        """Until all that it says now is told."""
        async with at_work(self.publisher.publish(link)), at_work(self.assignments.keep_telling(link)):
            assert await self.publisher.wait_published(30)
            bucket = await link.bucket(SUBJECTS.site_bucket)
            await until(lambda: self.succession._handed, "the estate is handed down")
            assert (await bucket.get(ESTATE)).value == self.succession._handed

    async def take_over(self, link: Link) -> None:
        async with at_work(self.succession.follow(link)):
            await until(lambda: self.succession.succeed(link), "all is here")
        await self.succession.begin()

    def close(self) -> None:
        self.store.close()
        self.database.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    servers = Server(tmp_path / "first"), Server(tmp_path / "second")
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
async def laid_out(link: Link, settings: Settings) -> Link:
    await ensure_layout(link, settings)
    await ensure_bucket(link, SUBJECTS.site_bucket)
    return link


def computer(number: int) -> Computer:
    return Computer(f"PC-{number}", (f"52:54:00:00:00:{number:02x}",))


async def test_the_next_one_has_model_assignments_and_numbers(laid_out: Link, servers: tuple[Server, Server]) -> None:
    first, second = servers
    first.store.add_computer(computer(1), "ann")
    gone = first.store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "ann")
    first.store.remove_deployment(gone.id, "ann")
    first.assignments.add("dp:hq", "LAB00001", 3, 1, "ann")
    await first.steer(laid_out)
    await second.take_over(laid_out)
    assert (second.store.model(), second.store.authority) == (first.store.model(), None)
    assert second.assignments.all() == first.assignments.all()
    new = second.store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "bob")
    assert new.id == gone.id + 1  # what was run of the one that is gone is not this one's
    await second.steer(laid_out)
    assert second.publisher.version == first.publisher.version + 1


async def test_the_first_one_comes_back_behind_the_second(laid_out: Link, servers: tuple[Server, Server]) -> None:
    first, second = servers
    first.store.add_computer(computer(1), "ann")
    await first.steer(laid_out)
    await second.take_over(laid_out)
    second.store.add_computer(computer(2), "bob")
    await second.steer(laid_out)
    await first.take_over(laid_out)
    assert [each.name for each in first.store.model().computers] == ["PC-1", "PC-2"]
    await first.steer(laid_out)
    assert first.publisher.version == second.publisher.version  # nothing new was said


async def test_a_model_that_points_were_never_told_is_not_replaced(
    laid_out: Link, servers: tuple[Server, Server]
) -> None:
    first, second = servers
    first.store.add_computer(computer(1), "ann")
    await first.steer(laid_out)
    second.store.add_computer(computer(9), "bob")
    async with at_work(second.succession.follow(laid_out)):
        with pytest.raises(SuccessionRefused, match="a model of its own, which points of site lab were never told"):
            await second.succession.succeed(laid_out)
        assert [each.name for each in second.store.model().computers] == ["PC-9"]
        second.store.remove_computer("PC-9", "bob")
        second.store.add_computer(computer(1), "bob")
        second.store.remove_computer("PC-1", "bob")
        assert second.store.model() == SiteModel()
        await until(lambda: second.succession.succeed(laid_out), "it follows as soon as it says nothing", 60)


async def test_what_points_are_to_hold_is_handed_down_before_any_of_them_hears_of_it(
    laid_out: Link, servers: tuple[Server, Server]
) -> None:
    first, _ = servers
    first.assignments.add("dp:hq", "LAB00001", None, 2, "ann")
    order: list[str] = []
    for name in (SUBJECTS.site_bucket, SUBJECTS.desired_bucket):
        bucket = await laid_out.bucket(name)
        assert (await bucket.status()).values == 0

    async def hand_down(link: Link, assigned: Any) -> None:
        keys = (await (await link.bucket(SUBJECTS.desired_bucket)).status()).values
        order.append(f"handed down with {keys} told")

    first.assignments.hand_down = hand_down
    async with at_work(first.assignments.keep_telling(laid_out)):
        desired = await laid_out.bucket(SUBJECTS.desired_bucket)

        async def told() -> bool:
            return bool((await desired.status()).values)

        await until(told, "the point's key")
    assert order[0] == "handed down with 0 told"


@pytest.mark.parametrize("left", [None, b"", zlib.compress(b'{"assignments": 7}')])
async def test_without_what_points_are_to_hold_nobody_takes_over(
    laid_out: Link, servers: tuple[Server, Server], left: bytes | None
) -> None:
    """Else every point would let go of all that the site had it hold."""
    _, second = servers
    if left is not None:
        await (await laid_out.bucket(SUBJECTS.site_bucket)).put(ESTATE, left)
    with pytest.raises(SuccessionRefused, match="what points are to hold"):
        await second.succession.succeed(laid_out)


async def test_a_site_that_has_said_nothing_is_taken_over_with_that(
    laid_out: Link, servers: tuple[Server, Server]
) -> None:
    first, second = servers
    await (await laid_out.bucket(SUBJECTS.site_bucket)).put(LEASE, b"{}")
    async with asyncio.timeout(60):
        await first.steer(laid_out)
        assert await second.succession.succeed(laid_out)
    assert second.publisher.head is None


# ---- whole servers


def site_status(server: SiteServerProcess) -> str:
    command = [sys.executable, "-m", "dpd", "site", "status", "--socket", server.control_socket]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def waits(client: Client) -> Any:
    lease = client.get("status")["lease"]
    return lease if lease["state"] == "waiting" else None


def test_a_second_server_waits_says_who_steers_follows_and_takes_over(nats: NatsServer, tmp_path: Path) -> None:
    with SiteServerProcess(tmp_path / "first", nats.url).ready() as first:
        first.wait_logged("site.steered")
        one = Client(first.control_socket)
        one.post("computers", body={"name": "PC-1", "macs": ["52:54:00:00:00:01"]})
        with SiteServerProcess(tmp_path / "second", nats.url).ready() as second:
            second.wait_logged("site.waiting")
            second.wait_logged("policy of the site taken over")
            two = Client(second.control_socket)
            assert waits(two)["pid"] == first.process.pid
            shown = site_status(second)
            assert f"pid {first.process.pid}" in shown
            assert "takes over when that one is gone" in shown
            with pytest.raises(RefusedByDaemon, match="policy of this point comes from site lab"):
                two.post("computers", body={"name": "PC-2", "macs": ["52:54:00:00:00:02"]})
            with pytest.raises(RefusedByDaemon, match=f"steered by the site server on .* .pid {first.process.pid}"):
                two.post("assignments", body={"target": "group:all", "package_id": "LAB00001"})
            with pytest.raises(RefusedByDaemon, match="follows site lab"):
                two.delete("policy", "authority")
            first.process.terminate()
            assert first.wait_ended()[0] == 0
            second.wait_logged("site.steered")
            two.post("computers", body={"name": "PC-2", "macs": ["52:54:00:00:00:02"]})
            assert second.wait_logged("policy.published")["version"] > 1
            assert {each["name"] for each in two.get("computers")["computers"]} == {"PC-1", "PC-2"}
            second.process.kill()
            second.process.wait()
            with SiteServerProcess(tmp_path / "first", nats.url).ready() as first_again:
                first_again.wait_logged("site.steered")  # behind one that was killed on this host, at once
                again = Client(first_again.control_socket)
                assert {each["name"] for each in again.get("computers")["computers"]} == {"PC-1", "PC-2"}
                assert "yes, since" in site_status(first_again)
