# SPDX-License-Identifier: Apache-2.0
"""Validation over the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.control.distributing import Point


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    point = Point(tmp_path / "state")
    async with point.open() as client:
        point.opened.validations.note_damage(64 * "a", "LAB00001", 1, "missing", 10)
        yield client


async def test_the_status_tells_when(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/validation") as reply:
        found = await reply.json()
    assert (reply.status, found["validated_at"], found["runs"]) == (200, 0, [])
    assert found["next_at"] > 1_700_000_000


async def test_damage_that_is_nobodys_any_more_says_so(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/validation/damage", params={"limit": "5"}) as reply:
        (found,) = (await reply.json())["damage"]
    assert (found["sha256"], found["state"], found["note"]) == (64 * "a", "removed", "no content has it any more")


@pytest.mark.parametrize("path", ["/v1/validation", "/v1/validation/damage"])
async def test_a_limit_has_its_bounds(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path, params={"limit": "0"}) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (400, "bad_request")
