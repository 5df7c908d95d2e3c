# SPDX-License-Identifier: Apache-2.0
"""One site server steers at a time, on a real NATS server: who holds, waits, takes over, and who has to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.bus.site_side import until
from tests.nats_server import NatsServer
from tests.site_server.at_work import at_work

from dpd.bus.connection import BusConnection
from dpd.bus.link import Link
from dpd.bus.messages import SiteLease, decode, encode
from dpd.bus.subjects import LEASE, Subjects
from dpd.bus.together import run_together
from dpd.errors import BusError, Unavailable
from dpd.settings import Settings
from dpd.site_server.layout import ensure_bucket
from dpd.site_server.lease import EXPIRES_S, HOLD_S, Lease, LeaseState, SuccessionRefused
from dpd.site_server.running_process import sign_of_process

BUCKET = Subjects("lab").site_bucket


@dataclass
class Server:
    """A lease with what it was asked and what it told. `ahead_s` sets its clock, which no other one sees."""

    name: str
    process: str = ""
    refusal: str = ""
    is_ready: bool = True
    ahead_s: float = 0.0
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self.lease = Lease(
            "lab",
            self.name,
            succeed=self.succeed,
            begin=self.begin,
            tell=lambda event, **fields: self.told.append((event, fields)),
            monotonic=lambda: time.monotonic() + self.ahead_s,
            process=self.process,
            renew_s=0.5,
            look_s=0.05,
        )

    async def succeed(self, link: Link) -> bool:
        if self.refusal:
            raise SuccessionRefused(self.refusal)
        return self.is_ready

    async def begin(self) -> None:
        self.begun += 1

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]

    async def until(self, state: LeaseState) -> None:
        await until(lambda: self.lease.state is state, f"{self.name} {state}", 60)


@asynccontextmanager
async def linked(settings: Settings) -> AsyncIterator[Link]:
    connection = BusConnection(settings.bus, name="test")
    async with at_work(connection.run([])):
        async with asyncio.timeout(30):
            await connection.connected.wait()
        assert connection.link is not None
        yield connection.link


async def found(link: Link) -> SiteLease:
    return decode(SiteLease, (await (await link.bucket(BUCKET)).get(LEASE)).value)


async def test_the_first_one_steers_and_the_second_one_says_who_does_and_waits(link: Link) -> None:
    first, second = Server("aa"), Server("bb")
    async with at_work(first.lease.attend(link)):
        await first.until(LeaseState.HELD)
        async with at_work(second.lease.attend(link)):
            await second.until(LeaseState.WAITING)
            holder = await found(link)
            assert second.lease.status().host == holder.host
            assert second.told == [("site.waiting", {"site": "lab", "host": holder.host, "pid": holder.pid})]
            with pytest.raises(Unavailable, match=f"steered by the site server on {holder.host} .* nothing was done"):
                await second.lease.require()
            with pytest.raises(BusError, match="does not steer"):
                await second.lease.confirm(link)
            await first.lease.confirm(link)
            await first.lease.require()
        assert first.events == ["site.steered"]
        assert (first.lease.stats.held, second.lease.stats.taken) == (1, 0)


async def test_one_that_gives_back_is_followed_at_once(link: Link) -> None:
    first, second = Server("aa"), Server("bb")
    async with at_work(first.lease.attend(link)), at_work(second.lease.attend(link)):
        await until(
            lambda: {first.lease.state, second.lease.state} == {LeaseState.HELD, LeaseState.WAITING}, "a holder"
        )
        holder, waiting = (first, second) if first.lease.state is LeaseState.HELD else (second, first)
        await holder.lease.give_back(link)
        assert holder.lease.state is LeaseState.UNKNOWN
        await waiting.until(LeaseState.HELD)
        assert waiting.begun == 1


async def test_one_that_falls_silent_is_followed_when_its_lease_has_expired(link: Link, settings: Settings) -> None:
    first, second = Server("aa"), Server("bb")
    async with linked(settings) as own, at_work(first.lease.attend(own)):
        await first.until(LeaseState.HELD)
    async with at_work(second.lease.attend(link)):
        await second.until(LeaseState.WAITING)
        second.ahead_s = EXPIRES_S
        await second.until(LeaseState.HELD)
    assert second.events == ["site.waiting", "site.steered"]
    assert second.told[1][1]["before"] == (await found(link)).host


async def test_one_whose_process_has_ended_is_followed_at_once(link: Link, settings: Settings) -> None:
    place, _, start = sign_of_process().rsplit("-", 2)
    first, second = Server("aa", process=f"{place}-4194304-{start}"), Server("bb", process=sign_of_process())
    async with linked(settings) as own, at_work(first.lease.attend(own)):
        await first.until(LeaseState.HELD)
    async with at_work(second.lease.attend(link)):
        await second.until(LeaseState.HELD)


async def test_one_that_was_taken_over_stops_what_it_does(link: Link) -> None:
    """As it may be after its host stood still: what it began to put is refused, too."""
    first = Server("aa")
    did: list[str] = []

    async def steer() -> None:
        did.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            did.append("ended")

    async with at_work(first.lease.attend(link)), at_work(first.lease.during(LeaseState.HELD, steer)):
        await until(lambda: did == ["begun"], "work")
        other = SiteLease("other", "bb", "elsewhere", 7, "", 5.0)
        await (await link.bucket(BUCKET)).put(LEASE, encode(other))
        with pytest.raises(BusError, match="does not steer"):
            await first.lease.confirm(link)
        await until(lambda: did == ["begun", "ended"], "its end")
        await first.until(LeaseState.WAITING)
        assert first.lease.status().host == "elsewhere"
        assert "site.lease_lost" in first.events


async def test_one_whose_renewals_are_not_confirmed_stops_before_anybody_takes_over(
    link: Link, nats: NatsServer
) -> None:
    first = Server("aa")
    async with at_work(first.lease.attend(link)):
        await first.until(LeaseState.HELD)
        nats.pause()
        try:
            first.ahead_s = HOLD_S
            await until(lambda: first.lease.stats.lost == 1, "it stops", 60)
            assert first.lease.state is LeaseState.UNKNOWN
        finally:
            nats.go_on()
    assert HOLD_S < EXPIRES_S


async def test_one_that_finds_its_own_lease_again_goes_on(settings: Settings, nats: NatsServer) -> None:
    """On a new link, at once, and without telling anybody."""
    first = Server("aa")
    connection = BusConnection(settings.bus, name="test")
    async with at_work(connection.run([first.lease.attend])):
        await first.until(LeaseState.HELD)
        since = first.lease.status().since
        nats.stop()
        await first.until(LeaseState.UNKNOWN)
        nats.start()
        await first.until(LeaseState.HELD)
        assert (first.events, first.lease.status().since) == (["site.steered"], since)


async def test_a_restarted_server_takes_its_own_lease_up_without_a_succession(link: Link, settings: Settings) -> None:
    """Its policy is its own: what it said while the bus was away is not replaced."""
    first, again = Server("aa"), Server("aa", refusal="asked")
    async with linked(settings) as own, at_work(first.lease.attend(own)):
        await first.until(LeaseState.HELD)
    async with at_work(again.lease.attend(link)):
        await again.until(LeaseState.WAITING)
        again.ahead_s = EXPIRES_S
        await again.until(LeaseState.HELD)
    assert again.events == ["site.waiting", "site.steered"]


async def test_a_copy_of_a_server_that_is_at_work_has_to_succeed_it(link: Link, settings: Settings) -> None:
    """The copy's state may be old, though it goes by the same name."""
    first, copy = Server("aa"), Server("aa", refusal="its own model")
    async with linked(settings) as own, at_work(first.lease.attend(own)):
        await first.until(LeaseState.HELD)
        async with at_work(copy.lease.attend(link)):
            await copy.until(LeaseState.WAITING)
            mark = (await found(link)).mark
            await first.lease.confirm(own)
            assert (await found(link)).mark != mark
            await until(lambda: copy.lease._alive == "aa", "the copy has seen it at work")
            await first.lease.give_back(own)
            await until(lambda: "site.not_taken_over" in copy.events, "the copy is refused")
            assert copy.lease.status().trouble == "its own model"


async def test_one_that_may_not_take_over_says_why_and_does_as_soon_as_it_may(link: Link) -> None:
    first, second = Server("aa"), Server("bb", refusal="a model of its own")
    async with at_work(first.lease.attend(link)):
        await first.until(LeaseState.HELD)
        await first.lease.give_back(link)
        async with at_work(second.lease.attend(link)):
            await until(lambda: second.events == ["site.not_taken_over"], "it says so")
            with pytest.raises(Unavailable, match="a model of its own"):
                await second.lease.require()
            second.refusal, second.is_ready = "", False
            await until(lambda: second.lease.state is LeaseState.WAITING, "not ready yet")
            second.is_ready = True
            await second.until(LeaseState.HELD)
            assert second.lease.status().trouble == ""


@pytest.mark.parametrize("spoil", [b"{}", b"", None])
async def test_a_lease_that_is_none_or_was_deleted_is_taken(link: Link, spoil: bytes | None) -> None:
    await ensure_bucket(link, BUCKET)
    bucket = await link.bucket(BUCKET)
    await bucket.put(LEASE, spoil or b"x")
    if spoil is None:
        await bucket.delete(LEASE)
    server = Server("aa")
    async with at_work(server.lease.attend(link)):
        await server.until(LeaseState.HELD)
        assert (await found(link)).server == "aa"


async def test_of_many_that_begin_at_once_one_steers(link: Link) -> None:
    servers = [Server(name) for name in ("aa", "bb", "cc", "dd")]
    async with at_work(together(servers, link)):
        await until(lambda: all(each.lease.state is not LeaseState.UNKNOWN for each in servers), "all know")
        assert sorted(each.lease.stats.held for each in servers) == [0, 0, 0, 1]
        assert sum(each.lease.stats.taken for each in servers) == 1


async def together(servers: list[Server], link: Link) -> None:
    await run_together(*(each.lease.attend(link) for each in servers))


async def test_work_that_fails_or_ends_while_it_may_run_is_told_so(link: Link) -> None:
    server = Server("aa")

    def failing(error: Exception | None) -> Callable[[], Any]:
        async def work() -> None:
            if error is not None:
                raise error

        return work

    async with at_work(server.lease.attend(link)):
        async with asyncio.timeout(30):
            await server.lease.during(LeaseState.HELD, failing(None))
            with pytest.raises(BusError, match="no use"):
                await server.lease.during(LeaseState.HELD, failing(BusError("no use")))
