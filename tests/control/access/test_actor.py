# SPDX-License-Identifier: Apache-2.0
"""Who asks the API."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dpd.control.access.actor import actor_of, local_user
from dpd.control.access.callers import CALLER, CallerUnknown, Role


async def _answer(request: web.Request) -> web.Response:
    try:
        caller = request[CALLER] = local_user(request)
    except CallerUnknown as error:
        return web.Response(text=str(error))
    assert (caller.role, caller.door) == (Role.ADMIN, "unix")
    return web.Response(text=actor_of(request))


@pytest.fixture
def application() -> web.Application:
    application = web.Application()
    application.router.add_get("/", _answer)
    return application


async def asked(application: web.Application, path: Path) -> str:
    """What comes over a Unix socket."""
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://dpd", connector=connector) as client, client.get("/") as response:
        text = await response.text()
    await runner.cleanup()
    return text


async def test_over_the_unix_socket_it_is_the_local_user(application: web.Application, tmp_path: Path) -> None:
    assert await asked(application, tmp_path / "s") == getpass.getuser()


async def test_a_user_without_a_name_has_a_number(
    application: web.Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert await asked(application, tmp_path / "s") == f"uid {os.getuid()}"


async def test_over_tcp_nobody_is_a_local_user(application: web.Application) -> None:
    async with TestClient(TestServer(application, host="127.0.0.1")) as client, client.get("/") as response:
        assert await response.text() == "expected a connection by the Unix socket of control.socket"
