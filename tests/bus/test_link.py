# SPDX-License-Identifier: Apache-2.0
"""What can be done with a link to a real nats-server."""

from __future__ import annotations

import asyncio

import pytest
from nats.js.errors import APIError
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.link import Link

pytestmark = needs_nats


async def test_what_is_published_comes_to_who_listens(link: Link, hub: NatsServer) -> None:
    came: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()

    async def take(message: object) -> None:
        came.put_nowait((message.data, message.reply))  # type: ignore[attr-defined]

    async with link.subscribed("a.*", take):
        await link.publish("a.b", b"1", reply="there")
        assert await asyncio.wait_for(came.get(), 30) == (b"1", "there")
    await link.publish("a.b", b"2")
    await link.client.flush()
    assert came.empty()
    assert link.server == f"127.0.0.1:{hub.port}"


async def test_a_name_that_the_stream_has_is_stored_once(link: Link) -> None:
    await link.jetstream.add_stream(name="s", subjects=["s.*"])
    assert await link.store("s.a", b"1", "e-1") == 1
    assert await link.store("s.a", b"1", "e-1") == 1
    assert await link.store("s.a", b"2", "e-2") == 2
    assert (await link.jetstream.stream_info("s")).state.messages == 2


async def test_a_key_is_replaced_where_its_revision_is_the_expected_one(link: Link) -> None:
    bucket = await link.jetstream.create_key_value(bucket="b")
    assert await link.replace("$KV.b.k", b"1", 0) == 1
    assert await link.replace("$KV.b.k", b"2", 1) == 2
    with pytest.raises(APIError) as raised:
        await link.replace("$KV.b.k", b"3", 1)
    assert raised.value.err_code == 10071
    assert (await bucket.get("k")).value == b"2"


async def test_a_watch_tells_what_there_is_then_none_then_what_changes(link: Link) -> None:
    bucket = await link.jetstream.create_key_value(bucket="b")
    await bucket.put("k", b"1")
    async with link.watched("b") as entries:
        first, mark = await anext(entries), await anext(entries)
        await bucket.put("k", b"2")
        second = await anext(entries)
    assert first is not None
    assert second is not None
    assert (first.value, mark, second.value) == (b"1", None, b"2")
