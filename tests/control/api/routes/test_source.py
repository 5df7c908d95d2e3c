# SPDX-License-Identifier: Apache-2.0
"""The routes to sources over a real Unix socket, of a daemon's whole distribution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.distribution.origin import Origin

from dpd.content import repository
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.content_settings import DistributionSettings, SourceSettings
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.distribution.opening import OpenDistribution
from dpd.settings import Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin({repository.IDENTITY: repository.encode_identity(KEY)}) as origin:
        yield origin


@pytest.fixture
async def api(
    settings: Settings, library: Library, origin: Origin, tmp_path: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    sources = (SourceSettings(name="hq", url=origin.url), SourceSettings(name="gone", url="http://127.0.0.1:1"))
    settings = replace(settings, distribution=DistributionSettings(source=sources))
    opened = OpenDistribution(settings, library, tmp_path, EventLog())
    operations = Operations(
        settings,
        library=library,
        boot_files=BootFiles(tmp_path / "boot"),
        journal=BootJournal(),
        services=[],
        multicast=None,
        opened=opened,
    )
    listener = ControlListener(settings.control, partial(make_application, operations))
    await listener.start()
    opened.start()
    connector = aiohttp.UnixConnector(settings.control.socket)
    async with aiohttp.ClientSession("http://dpd", connector=connector) as client:
        yield client
    await listener.stop()
    opened.stop()
    operations.close()


async def ask(api: aiohttp.ClientSession, method: str, target: str) -> tuple[int, Any]:
    async with api.request(method, target) as response:
        return response.status, await response.json()


async def test_sources_are_listed_asked_and_their_key_forgotten(api: aiohttp.ClientSession, origin: Origin) -> None:
    status, reply = await ask(api, "GET", "/v1/sources")
    assert status == 200
    hq, gone = reply["sources"]
    assert (hq["name"], hq["is_reachable"], hq["key_state"], hq["offered_key"]) == ("hq", True, "unknown", KEY.hex())
    assert (gone["is_reachable"], gone["error"], gone["latency_ms"]) == (False, "Connection refused", None)
    assert (await ask(api, "GET", "/v1/sources/hq"))[1]["url"] == origin.url
    assert (await ask(api, "DELETE", "/v1/sources/hq/key"))[1]["key_state"] == "unknown"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/sources/none", 404),
        ("DELETE", "/v1/sources/none/key", 404),
        ("GET", "/v1/sources/a%20b", 400),
        ("POST", "/v1/sources", 405),
    ],
)
async def test_what_cannot_be_asked(api: aiohttp.ClientSession, method: str, target: str, status: int) -> None:
    found, reply = await ask(api, method, target)
    assert found == status
    assert reply["error"]["message"]
