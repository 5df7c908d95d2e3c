# SPDX-License-Identifier: Apache-2.0
"""A watch tells everything there is and changes, or that it cannot: beside a real nats-server, and with messages left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig
from tests.nats_server import needs_nats

from dpd.bus.link import Link
from dpd.bus.watch import Entry, Watch
from dpd.errors import BusError

pytestmark = needs_nats

PATIENCE_S = 60.0


@pytest.fixture
async def patience() -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE_S):
        yield


def message(number: int, key: str, pending: int, value: bytes = b"1", headers: dict[str, str] | None = None) -> Msg:
    reply = f"$JS.ACK.KV_b.c.1.{100 + number}.{number}.1700000000000000000.{pending}"
    return Msg(Client(), f"$KV.b.{key}", reply, value, headers)


def heartbeat(sent: int) -> Msg:
    return Msg(Client(), "inbox", "", b"", {"Status": "100", "Nats-Last-Consumer": str(sent)})


def watch_of(pending: int, *messages: Msg, silent_s: float = PATIENCE_S) -> Watch:
    came: asyncio.Queue[Msg] = asyncio.Queue()
    for each in messages:
        came.put_nowait(each)
    return Watch("b", came, pending, silent_s=silent_s)


async def all_of(watch: Watch) -> None:
    async for _ in watch:
        pass


async def test_entries_then_none_then_changes() -> None:
    watch = watch_of(2, message(1, "k", 1), message(2, "l", 0), message(3, "k", 0, b"2"))
    assert [await anext(watch) for _ in range(4)] == [
        Entry("k", b"1", 101),
        Entry("l", b"1", 102),
        None,
        Entry("k", b"2", 103),
    ]


async def test_of_an_empty_bucket_none_comes_first() -> None:
    watch = watch_of(0, message(1, "k", 0))
    assert [await anext(watch), await anext(watch)] == [None, Entry("k", b"1", 101)]


async def test_where_what_was_there_has_gone_meanwhile_a_heartbeat_says_that_it_was_all() -> None:
    assert await anext(watch_of(1, heartbeat(0))) is None


@pytest.mark.parametrize(
    "headers", [{"KV-Operation": "DEL"}, {"KV-Operation": "PURGE"}, {"Nats-Marker-Reason": "MaxAge"}]
)
async def test_a_key_that_was_taken_out_is_told(headers: dict[str, str]) -> None:
    assert await anext(watch_of(1, message(1, "k", 0, b"", headers))) == Entry("k", b"", 101, is_deleted=True)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([heartbeat(1)], "1 sent, 0 came"),  # the very first one, before anybody listened
        ([message(2, "l", 0)], "1 sent, 0 came"),
        ([message(1, "k", 0), heartbeat(1), message(3, "l", 0)], "2 sent, 1 came"),
        ([message(1, "k", 0), heartbeat(2)], "2 sent, 1 came"),
    ],
)
async def test_what_was_lost_on_the_way_is_an_error(messages: list[Msg], said: str) -> None:
    watch = watch_of(1, *messages)
    with pytest.raises(BusError, match=f"the watch of b lost something: {said}"):
        await all_of(watch)


async def test_silence_is_an_error() -> None:
    with pytest.raises(BusError, match="fallen silent"):
        await anext(watch_of(1, silent_s=0.05))


@pytest.mark.usefixtures("patience")
async def test_a_real_server_counts_as_this_does(link: Link) -> None:
    bucket = await link.jetstream.create_key_value(KeyValueConfig("b", history=1))
    for number in range(300):
        await bucket.put(f"k{number % 100}", b"%d" % number)
    async with link.watched("b") as watch:
        found = [await anext(watch) for _ in range(101)]
        assert [entry.value for entry in found[:100] if entry is not None] == [b"%d" % n for n in range(200, 300)]
        assert found[100] is None
        await bucket.delete("k7")
        gone = await anext(watch)
        assert gone == Entry("k7", b"", 301, is_deleted=True)


@pytest.mark.usefixtures("patience")
async def test_a_real_servers_heartbeats_keep_an_idle_watch_alive(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd.bus.link.HEARTBEAT_S", 0.2)
    await link.jetstream.create_key_value(bucket="b")
    async with link.watched("b") as watch:
        assert await anext(watch) is None
        loop = asyncio.get_running_loop()
        bucket = await link.bucket("b")
        putting = asyncio.Event()
        loop.call_later(1.0, putting.set)

        async def put() -> None:
            await putting.wait()
            await bucket.put("k", b"1")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(put())
            assert await anext(watch) == Entry("k", b"1", 1)


@pytest.mark.usefixtures("patience")
async def test_a_consumer_that_the_server_no_longer_has_is_noticed(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd.bus.link.HEARTBEAT_S", 0.2)
    monkeypatch.setattr("dpd.bus.link.Watch", lambda *told: Watch(*told, silent_s=2.0))
    await link.jetstream.create_key_value(bucket="b")
    async with link.watched("b") as watch:
        assert await anext(watch) is None
        [consumer] = await link.jetstream.consumers_info("KV_b")
        await link.jetstream.delete_consumer("KV_b", consumer.name)
        with pytest.raises(BusError, match="fallen silent"):
            await anext(watch)
