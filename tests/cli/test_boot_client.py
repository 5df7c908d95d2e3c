# SPDX-License-Identifier: Apache-2.0
"""The played boot client against the real services on loopback."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from dpd.cli.boot_client import fetch_tftp, play_boot
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.errors import DpdError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.service.pxe.proxy_dhcp import PxeService
from dpd.service.tftp.server import TftpService
from dpd.settings import HttpSettings, PxeSettings, TftpSettings
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:00:00:07"


async def test_a_client_is_told_its_loader_and_fetches_it_both_ways(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    loader = bytes(range(256)) * 5000
    (boot / "ipxe.efi").write_bytes(loader)
    journal, boot_files = BootJournal(), BootFiles(boot)
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        http = HttpService(
            HttpSettings(listen="127.0.0.1", port=0),
            library=library,
            boot_tree=BootTree(boot_files, journal),
            multicast=None,
            journal=journal,
        )
        await http.start()
        pxe = PxeService(
            PxeSettings(listen="127.0.0.1", port=0, boot_port=0), http_port=http.ports["http"], journal=journal
        )
        tftp = TftpService(TftpSettings(listen="127.0.0.1", port=0), BootTree(boot_files, journal), journal=journal)
        await pxe.start()
        await tftp.start()
        try:
            play = await asyncio.to_thread(
                play_boot,
                "127.0.0.1",
                port=pxe.ports["port"],
                boot_port=pxe.ports["boot_port"],
                tftp_port=tftp.ports["tftp"],
                mac=MAC,
            )
        finally:
            for service in (pxe, tftp, http):
                await service.stop()
    assert (play.offered.loader, play.answered.loader) == ("ipxe.efi", "ipxe.efi")
    assert play.by_tftp == loader
    assert play.by_http == loader
    assert [event.event for event in journal.story(MAC)][:3] == ["discover", "decision", "offer"]


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd.cli.boot_client.TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(DpdError, match=f"no OFFER from 127.0.0.1 port {port}"):
            play_boot("127.0.0.1", port=port, boot_port=port, tftp_port=port, mac=MAC)
        with pytest.raises(DpdError, match=r"TFTP: a\.efi: nothing from 127\.0\.0\.1"):
            fetch_tftp(("127.0.0.1", port), "a.efi")
