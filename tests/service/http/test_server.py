# SPDX-License-Identifier: Apache-2.0
"""The service as the daemon drives it: start, drain, stop, and the loop it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from tests.service.http_site import (
    LARGE_BYTES,
    LOADER,
    Door,
    Site,
    begin_large_download,
    opened_site,
    read_all,
)
from tests.service.waiting import until

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.errors import ServiceError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings
from dpd.telemetry.journal import BootJournal


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        yield site


class TestLifecycle:
    async def test_a_port_in_use_is_explained(self, site: Site) -> None:
        second = HttpService(
            HttpSettings(listen="127.0.0.1", port=site.port),
            library=site.library,
            boot_tree=BootTree(BootFiles(site.directory), site.journal),
            multicast=None,
            journal=site.journal,
        )
        with pytest.raises(ServiceError, match=rf"port {site.port} is in use; `ss -Htlpn 'sport = :{site.port}'`"):
            await second.start()
        await second.stop()

    async def test_drain_lets_a_download_end_and_takes_no_new_one(self, site: Site) -> None:
        reader, writer = await begin_large_download(site)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", site.port)
        await until(lambda: site.service.stats.connections == 2)
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(site.service.drain())
            assert await read_all(idle_reader) == 0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", site.port)
            assert not draining.done()
            received = await read_all(reader)
        assert received == LARGE_BYTES
        writer.close()
        idle_writer.close()

    async def test_stop_breaks_off_and_may_be_called_again(self, site: Site) -> None:
        reader, writer = await begin_large_download(site)
        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await site.service.drain()
            await site.service.stop()
            await site.service.stop()
        assert await read_all(reader) < LARGE_BYTES
        assert site.service.stats.downloads == 0
        writer.close()

    def test_a_uvloop_daemon_still_gets_a_plain_loop_for_content(self, tmp_path: Path) -> None:
        (tmp_path / "boot").mkdir()
        (tmp_path / "boot" / "x.efi").write_bytes(LOADER)
        journal = BootJournal()

        async def scenario(library: Library) -> bytes:
            settings = HttpSettings(listen="127.0.0.1", port=0)
            boot_tree = BootTree(BootFiles(tmp_path / "boot"), journal)
            service = HttpService(settings, library=library, boot_tree=boot_tree, multicast=None, journal=journal)
            await service.start()
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            assert isinstance(service._loop, asyncio.SelectorEventLoop)
            _, _, body = await Site(service, library, tmp_path, journal, Door()).ask("/x.efi")
            await service.stop()
            return body

        with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
            assert uvloop.run(scenario(library)) == LOADER

    async def test_ipv6_and_dual_stack(self, site: Site) -> None:
        service = HttpService(
            HttpSettings(listen="::", port=0),
            library=site.library,
            boot_tree=BootTree(BootFiles(site.directory / "boot"), site.journal),
            multicast=site.door,
            journal=site.journal,
        )
        await service.start()
        other = Site(service, site.library, site.directory, site.journal, site.door)
        await other.ask("/mc/sessions/LAB00001/join", method="POST", body=b"{}")
        assert site.door.asked[-1][3] == "127.0.0.1"  # as DHCP knows it, not ::ffff:127.0.0.1
        await service.stop()
