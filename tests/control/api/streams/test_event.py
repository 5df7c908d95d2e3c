# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as a client reads them: every message once, also over breaks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from dpd.control.api.streams import event as event_stream
from dpd.control.api.streams import server_sent
from dpd.control.operations import message as message_operations
from dpd.control.operations.verbs import Operations
from dpd.settings import Settings
from dpd.telemetry.spool import Spool
from dpd.telemetry.spool_file import SpoolLimits

PATIENCE_S = 30.0


def put(spool: Spool, count: int, event: str = "job.done", **fields: str | int) -> None:
    for _ in range(count):
        spool.put(event, fields)
    assert spool.flush(PATIENCE_S)


async def read_event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """One event by its fields, comments under ""."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_S):
        while (line := (await response.content.readline()).decode().rstrip("\n")) or not fields:
            assert line, "the stream ended"
            name, _, value = line.partition(": ")
            fields[name] = value
    return fields


async def read_messages(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        event = await read_event(response)
        if "data" in event:
            found.append(json.loads(event["data"]))
            assert event["id"] == found[-1]["position"]
    return found


async def test_a_follower_gets_what_comes_with_its_position(api: aiohttp.ClientSession, spool: Spool) -> None:
    put(spool, 3)
    async with api.get("/v1/events/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert (await read_event(response))["id"] == f"{spool.epoch}-3"
        await asyncio.to_thread(put, spool, 1, "job.failed", job=7, kind="pull")
        (message,) = await read_messages(response, 1)
    assert (message["sequence"], message["severity"], message["text"]) == (4, "error", "Job 7 (pull) failed.")


async def test_who_comes_back_with_the_last_id_goes_on_behind_it(api: aiohttp.ClientSession, spool: Spool) -> None:
    put(spool, 10)
    found: list[int] = []
    last = "0"
    while len(found) < 10:
        async with api.get("/v1/events/stream?after=0", headers={"Last-Event-ID": last}) as response:
            messages = await read_messages(response, 3 if len(found) < 9 else 1)
        found += [each["sequence"] for each in messages]
        last = messages[-1]["position"]
    assert found == list(range(1, 11))


async def test_only_the_severe_ones_and_a_heartbeat_that_moves_on(
    api: aiohttp.ClientSession, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.05)
    put(spool, 3)
    put(spool, 1, "job.failed")
    put(spool, 3)
    async with api.get("/v1/events/stream?after=0&severity=error") as response:
        (message,) = await read_messages(response, 1)
        assert message["sequence"] == 4
        heartbeat = await read_event(response)
    assert heartbeat == {"": "heartbeat", "id": f"{spool.epoch}-7"}


async def test_what_was_dropped_is_told(api: aiohttp.ClientSession, spool: Spool) -> None:
    put(spool, 2)
    assert spool._file is not None
    spool._file._limits = SpoolLimits(10, 1 << 20)
    put(spool, 30)
    async with api.get("/v1/events/stream?after=1") as response:
        await read_event(response)
        missed = await read_event(response)
        assert missed["event"] == "missed"
        assert json.loads(missed["data"]) == {"first": 2, "last": spool.oldest - 1}
        assert missed["id"] == f"{spool.epoch}-{spool.oldest - 1}"
        (message,) = await read_messages(response, 1)
    assert message["sequence"] == spool.oldest


async def test_a_drain_ends_the_stream_with_everything_told(
    api: aiohttp.ClientSession, operations: Operations, spool: Spool
) -> None:
    async with api.get("/v1/events/stream") as response:
        await read_event(response)
        operations.drain()
        (message,) = await read_messages(response, 1)
        assert message["event"] == "daemon.draining"
        assert await response.content.read() == b""


async def test_a_wrong_position_is_refused_before_the_stream_begins(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/events/stream", headers={"Last-Event-ID": "yesterday"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_request")


async def test_one_follower_too_many_is_refused_with_a_status_of_its_own(
    api: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_operations, "MAX_FOLLOWERS", 0)
    async with api.get("/v1/events/stream") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "unavailable")


async def test_a_client_that_goes_leaves_nothing_behind(
    api: aiohttp.ClientSession, operations: Operations, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.05)
    async with api.get("/v1/events/stream") as response:
        await read_event(response)
        assert operations.messages._followers == 1
        response.close()
    async with asyncio.timeout(PATIENCE_S):
        while operations.messages._followers:
            await asyncio.sleep(0.02)


async def test_a_client_that_does_not_read_loses_its_place(
    api: aiohttp.ClientSession,
    settings: Settings,
    operations: Operations,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_sent, "STALLED_S", 0.3)
    for _ in range(3000):  # more than the buffers of a socket hold
        spool.put("job.failed", {"error": "x" * 900})
    assert await asyncio.to_thread(spool.flush, PATIENCE_S)
    reader, writer = await asyncio.open_unix_connection(settings.control.socket)
    writer.write(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: dpd\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert operations.messages._followers == 1
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while operations.messages._followers:
                await asyncio.sleep(0.02)
    finally:
        writer.transport.abort()
