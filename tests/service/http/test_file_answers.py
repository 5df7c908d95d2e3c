# SPDX-License-Identifier: Apache-2.0
"""Files of a boot image over HTTP: made in memory, judged by ticket, resumable like any other file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.service.http_site import MAC, Door, Site

from dpd.boot.tree import BootContext, BootObject, in_memory
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings
from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.tickets import BootTicket, Tickets
from dpd.telemetry.journal import BootJournal

SCRIPT = b"#!ipxe\nkernel linux\n" * 50
NOW = 1000.0


class Images:
    """One image with one file, which is made for each machine."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        if name == "boot.ipxe":
            return replace(in_memory("boot.ipxe", SCRIPT + context.mac.encode()), completes_boot=True)
        return None

    def holds(self, name: str) -> bool:
        return name == "boot.ipxe"

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return ""


class Desk(Tickets):
    def __init__(self) -> None:
        super().__init__()
        self.runs: list[str] = []
        self.pins: list[str] = []

    def run_started(self, address: str) -> None:
        self.runs.append(address)

    def enter_pin(self, address: str, pin: str) -> bool:
        self.pins.append(pin)
        return True

    def ticket_at(self, address: str) -> BootTicket | None:
        return self.of_mac(self.mac_of(address))

    def grant(self, lifetime_s: float = 60.0) -> None:
        request = BootRequest(MAC, "", "uefi-x64", "iPXE", "127.0.0.1", at=NOW)
        self.issue(request, Decision(Outcome.BOOT, Cause.REQUIRED, boot_image="LAB00005"), lifetime_s)
        self.bind("127.0.0.1", MAC)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest_asyncio.fixture
async def site(tmp_path: Path, desk: Desk) -> AsyncIterator[Site]:
    (tmp_path / "boot").mkdir()
    journal = BootJournal()
    journal.bind("127.0.0.1", MAC)
    tree = BootTree(BootFiles(tmp_path / "boot"), journal, desk=desk, images=Images(), clock=lambda: NOW)
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        service = HttpService(
            HttpSettings(listen="127.0.0.1", port=0), library=library, boot_tree=tree, multicast=None, journal=journal
        )
        await service.start()
        yield Site(service, library, tmp_path, journal, Door())
        await service.stop()


async def test_what_is_made_for_one_machine_is_sent_whole_and_in_parts(site: Site, desk: Desk) -> None:
    desk.grant()
    whole = SCRIPT + MAC.encode()
    status, headers, body = await site.ask("/boot/boot.ipxe")
    assert (status, body, headers["Content-Length"]) == (200, whole, str(len(whole)))
    status, _, body = await site.ask("/boot/boot.ipxe", Range="bytes=100-", If_Range=headers["ETag"])
    assert (status, body) == (206, whole[100:])


async def test_without_a_ticket_the_answer_says_so_and_is_counted(site: Site) -> None:
    status, _, body = await site.ask("/boot/boot.ipxe")
    assert (status, json.loads(body)["error"]["code"]) == (403, "no_ticket")
    assert site.service.stats.refused_files == {"no_ticket": 1}
    assert [event.event for event in site.journal.story(MAC)] == ["refused_file", "http"]


async def test_an_expired_ticket_gets_nothing(site: Site, desk: Desk) -> None:
    desk.grant(lifetime_s=0.0)
    assert (await site.ask("/boot/boot.ipxe"))[0] == 403


async def test_a_name_that_nobody_has_is_not_found(site: Site) -> None:
    status, _, body = await site.ask("/boot/pxelinux.0")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


async def test_who_received_the_end_of_the_last_file_has_begun_to_run(site: Site, desk: Desk) -> None:
    desk.grant()
    await site.ask("/boot/boot.ipxe", Range="bytes=0-9")
    await site.ask("/boot/boot.ipxe", method="HEAD")
    assert desk.runs == []
    await site.ask("/boot/boot.ipxe")
    async with asyncio.timeout(10):
        while not desk.runs:  # the client may have the last byte before the service's send has returned
            await asyncio.sleep(0.01)
    assert desk.runs == ["127.0.0.1"]


async def test_a_pin_goes_to_policy_and_the_answer_is_the_script(site: Site, desk: Desk) -> None:
    desk.grant()
    status, _, body = await site.ask("/boot/pin?pin=1234")
    assert (status, body, desk.pins) == (200, SCRIPT + MAC.encode(), ["1234"])
