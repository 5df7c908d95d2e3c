# SPDX-License-Identifier: Apache-2.0
"""The routes to task sequences over a real Unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.deployment.signed_sequences import SignedSequences
from dpd.sequence.document import MAX_DOCUMENT_BYTES
from dpd.sequence.signed import read_signed
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.records import Deployment, Purpose
from dpd.site.store import SiteStore
from dpd.telemetry.journal import BootJournal

TEXT = 'name = "debian"\n[[step]]\nname = "Restart"\ndo = "restart"\n'


@pytest.fixture
async def place(settings: Settings, library: Library, tmp_path: Path) -> AsyncIterator[Operations]:
    with closing(SiteStore(tmp_path / "site.db")) as store:
        operations = Operations(
            settings,
            library=library,
            boot_files=BootFiles(tmp_path / "boot"),
            journal=BootJournal(),
            services=[],
            multicast=None,
            policy=BootPolicy(settings, store=store),
            sequences=SignedSequences(store.sequences.find, library.public_key(), library.sign),
        )
        listener = ControlListener(settings.control, partial(make_application, operations))
        await listener.start()
        yield operations
        await listener.stop()
        operations.close()


@pytest.fixture
async def api(place: Operations, settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(settings.control.socket)
    async with aiohttp.ClientSession("http://dpd", connector=connector) as client:
        yield client


async def ask(api: aiohttp.ClientSession, method: str, target: str, text: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": "application/toml"} if text else {}
    async with api.request(method, target, data=BytesIO(text.encode()) if text else None, headers=headers) as response:
        return response.status, await response.json()


async def test_a_sequence_is_published_shown_exported_and_removed(api: aiohttp.ClientSession, library: Library) -> None:
    status, published = await ask(api, "POST", "/v1/sequences", TEXT)
    assert (status, published["is_new"], published["version"]["version"]) == (200, True, 1)
    assert (await ask(api, "POST", "/v1/sequences?version=7", TEXT + "#\n"))[1]["version"]["version"] == 7
    listed = (await ask(api, "GET", "/v1/sequences"))[1]["sequences"]
    assert [(each["name"], each["version"]) for each in listed] == [("debian", 7)]
    shown = (await ask(api, "GET", "/v1/sequences/debian?version=1"))[1]
    assert [each["do"] for each in shown["outline"]["members"]] == ["restart"]
    assert [each["version"] for each in shown["versions"]] == [7, 1]
    text = (await ask(api, "GET", "/v1/sequences/debian/text?version=1"))[1]
    assert text["text"] == TEXT
    assert read_signed(text["document"], library.public_key())[0].version == 1
    status, removed = await ask(api, "DELETE", "/v1/sequences/debian?version=1")
    assert (status, [each["version"] for each in removed["removed"]]) == (200, [1])
    assert (await ask(api, "DELETE", "/v1/sequences/debian"))[0] == 200
    assert (await ask(api, "GET", "/v1/sequences"))[1] == {"sequences": []}


async def test_a_check_tells_problems_with_their_lines(api: aiohttp.ClientSession) -> None:
    status, checked = await ask(api, "POST", "/v1/sequences/check", TEXT.replace("restart", "reboot"))
    assert (status, checked["outline"]) == (200, None)
    (problem,) = checked["problems"]
    assert (problem["line"], problem["place"]) == (4, "step 1 (Restart): do")
    assert (await ask(api, "POST", "/v1/sequences/check", TEXT))[1]["problems"] == []


@pytest.mark.parametrize(
    ("method", "target", "text", "status", "told"),
    [
        ("POST", "/v1/sequences", "name: debian\n", 400, "line 1: this looks like YAML"),
        ("POST", "/v1/sequences", "#" * (MAX_DOCUMENT_BYTES + 1), 400, "larger than 1048576 bytes"),
        ("POST", "/v1/sequences?version=-1", TEXT, 400, "version"),
        ("GET", "/v1/sequences/other", "", 404, "no task sequence other"),
        ("GET", "/v1/sequences/a%20b", "", 400, "sequence"),
        ("GET", "/v1/sequences/other/text", "", 404, "no task sequence other"),
        ("DELETE", "/v1/sequences/other", "", 404, "no task sequence other"),
        ("PUT", "/v1/sequences", TEXT, 405, ""),
    ],
)
async def test_what_is_refused(
    api: aiohttp.ClientSession, method: str, target: str, text: str, status: int, told: str
) -> None:
    found, reply = await ask(api, method, target, text)
    assert found == status
    assert told in reply["error"]["message"]


async def test_a_number_that_is_given_and_a_deployed_sequence_are_conflicts(
    api: aiohttp.ClientSession, place: Operations
) -> None:
    await ask(api, "POST", "/v1/sequences", TEXT)
    status, reply = await ask(api, "POST", "/v1/sequences?version=1", TEXT + "#\n")
    assert (status, reply["error"]["code"]) == (409, "sequence_conflict")
    place.site.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE, sequence="debian"), "anna")
    status, reply = await ask(api, "DELETE", "/v1/sequences/debian")
    assert (status, reply["error"]["code"]) == (409, "sequence_conflict")
    assert "`dpd deployment remove 1` first" in reply["error"]["message"]
