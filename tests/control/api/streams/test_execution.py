# SPDX-License-Identifier: Apache-2.0
"""Deployments under way as server-sent events, as a client reads them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.control.deploying import Deploying
from tests.deployment.executions import begin, said

from dpd.control.api.streams import execution as execution_stream
from dpd.control.operations import execution as execution_operations

PATIENCE_S = 60.0


async def read_event(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    """Its kind and data; a comment's kind is ""."""
    kind, data = "", None
    async with asyncio.timeout(PATIENCE_S):
        while True:
            line = (await response.content.readline()).decode()
            assert line, "the stream ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
            elif not name and not value and data is not None:
                return kind, data
            elif line == ": heartbeat\n":
                return "", None


async def test_what_is_comes_first_then_what_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_operations, "GATHER_S", 0.01)
    point = Deploying(tmp_path)
    id = begin(point.book)
    async with point.open() as api, api.get("/v1/executions/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        kind, first = await read_event(response)
        assert (kind, first["id"], first["state"]) == ("execution", id, "running")
        assert await read_event(response) == ("current", {})
        await asyncio.to_thread(point.book.take_reports, id, [said(1, "1", "failed", "no disk")], 1010.0)
        kind, changed = await read_event(response)
        assert (kind, changed["error"]) == ("execution", "no disk")
        assert changed["next_step"]


async def test_a_heartbeat_comes_where_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_stream, "HEARTBEAT_S", 0.01)
    async with Deploying(tmp_path).open() as api, api.get("/v1/executions/stream") as response:
        assert await read_event(response) == ("current", {})
        assert await read_event(response) == ("", None)


async def test_one_too_many_is_refused_with_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_operations, "MAX_FOLLOWERS", 0)
    async with Deploying(tmp_path).open() as api, api.get("/v1/executions/stream") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "unavailable")


async def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_stream, "HEARTBEAT_S", 0.02)
    point = Deploying(tmp_path)
    async with point.open() as api:
        async with api.get("/v1/executions/stream") as response:
            await read_event(response)
            assert point.operations.executions._followers == 1
            response.close()
        async with asyncio.timeout(PATIENCE_S):
            while point.operations.executions._followers:
                await asyncio.sleep(0.02)


async def test_a_drain_ends_the_stream(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    async with point.open() as api, api.get("/v1/executions/stream") as response:
        await read_event(response)
        point.operations.drain()
        async with asyncio.timeout(PATIENCE_S):
            await response.content.read()
