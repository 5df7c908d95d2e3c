# SPDX-License-Identifier: Apache-2.0
"""The bus as a door of the API."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from dpd.bus.messages import Ask, BusCaller
from dpd.control.api.application import make_application
from dpd.control.bus.door import SOCKET_NAME, BusDoor
from dpd.control.operations.verbs import Operations
from dpd.errors import BusError


def ask(method: str, target: str, body: str = "", caller: BusCaller | None = None) -> Ask:
    return Ask("0123456789", method, target, body, caller=caller or BusCaller("anna", "admin"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Longer than the address of a socket may be."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    return folder


@pytest.fixture
async def door(operations: Operations, folder: Path) -> AsyncIterator[BusDoor]:
    async with AsyncExitStack() as stack:
        door = BusDoor(folder, "lab")
        await door.open(stack, partial(make_application, operations))
        yield door
    assert not (folder / SOCKET_NAME).exists()


async def test_the_caller_is_whom_the_site_names(door: BusDoor) -> None:
    response = await door.request(ask("GET", "/v1/caller", caller=BusCaller("bea", "operator")))
    assert await response.json() == {"name": "bea by site lab", "role": "operator", "door": "bus"}


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 409), ("admin", 409), ("root", 401), ("", 401)])  # fmt: skip
async def test_each_role_may_what_it_may_at_every_door(door: BusDoor, role: str, status: int) -> None:
    body = '{"package_id": "LAB00001"}'
    response = await door.request(ask("POST", "/v1/sessions", body, BusCaller("bea", role)))
    assert response.status in ((status, 404) if status == 409 else (status,))
    response.release()


async def test_nobody_else_gets_in_by_its_socket(door: BusDoor, folder: Path) -> None:
    path = folder / SOCKET_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(door._short_path)) as other:
        for headers in ({}, {"X-Dpd-Secret": "guess", "X-Dpd-Role": "admin", "X-Dpd-Caller": "eve"}):
            async with other.get("http://dpd/v1/status", headers=headers) as response:
                assert response.status == 401
                assert "dpd's own" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("target", ["", "/", "http://elsewhere/v1/status", "/metrics", "/v1/a b\r\nX: y", "/v1/ä"])
async def test_only_paths_of_the_api_are_asked_for(door: BusDoor, target: str) -> None:
    with pytest.raises(BusError, match="expected a path of the API"):
        await door.request(ask("GET", target))


async def test_an_ask_without_a_caller_is_refused(door: BusDoor) -> None:
    with pytest.raises(BusError, match="names no caller"):
        await door.request(Ask("0123456789", "GET", "/v1/status"))


async def test_a_callers_name_cannot_become_a_header(door: BusDoor) -> None:
    response = await door.request(ask("GET", "/v1/caller", caller=BusCaller("x\r\nX-Dpd-Role: admin", "viewer")))
    assert (await response.json())["role"] == "viewer"


async def test_a_socket_that_a_killed_dpd_left_is_replaced(operations: Operations, tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("left over")
    async with AsyncExitStack() as stack:
        door = BusDoor(tmp_path, "lab")
        await door.open(stack, partial(make_application, operations))
        assert (await door.request(ask("GET", "/v1/status"))).status == 200
