# SPDX-License-Identifier: Apache-2.0
"""One transfer between its client and its file: the disk's ways, strangers, and what is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.service.tftp_site import SETTINGS, Client, idle, tree_of

from dpd.protocol.tftp.packet import Ack, Error
from dpd.service.tftp.extents import OpenFile
from dpd.service.tftp.server import TftpService
from dpd.telemetry.journal import BootJournal

CONTENT = bytes(range(256)) * 4000  # four extents


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "Boot").mkdir()
    (tmp_path / "Boot" / "BCD").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"small")
    return tmp_path


@pytest.fixture
async def service(directory: Path) -> AsyncIterator[TftpService]:
    service = TftpService(SETTINGS, tree_of(directory), journal=BootJournal())
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def client(service: TftpService) -> Iterator[Client]:
    client = Client(service)
    with closing(client.sock):
        yield client


async def test_a_file_cut_while_it_is_read_ends_with_an_error(
    service: TftpService, client: Client, directory: Path
) -> None:
    client.ask("Boot/BCD", tsize=0)
    await client.hear()
    os.truncate(directory / "Boot" / "BCD", 1000)
    client.say(Ack(0))
    assert await client.hear() == Error(0, "the file became shorter while it was read")


async def test_what_is_not_in_the_page_cache_is_read_by_a_thread(
    service: TftpService, client: Client, directory: Path
) -> None:
    descriptor = os.open(directory / "Boot" / "BCD", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert await client.read("Boot/BCD", blksize=1468, windowsize=16) == CONTENT
    assert service.stats.disk_reads > 0


async def test_an_error_of_the_disk_ends_one_transfer_and_tells_its_client(
    service: TftpService, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    client.ask("Boot/BCD", tsize=0)
    await client.hear()
    with monkeypatch.context() as patch:
        patch.setattr(OpenFile, "at_once", broken)  # a disk that fails is not to be had otherwise
        client.say(Ack(0))
        assert await client.hear() == Error(0, "server error")
    assert service.stats.failures == 1
    assert service.stats.transfers == {"aborted": 1}
    assert caplog.records[0].getMessage() == "tftp transfer failed"
    assert await client.read("small") == b"small"


async def test_a_stranger_on_a_transfers_port_gets_error_5(service: TftpService, client: Client) -> None:
    client.ask("small")
    await client.hear()
    stranger = Client(service)
    with closing(stranger.sock):
        stranger.peer = client.peer
        stranger.say(Ack(1))
        assert await stranger.hear() == Error(5, "unknown transfer")
    client.say(Ack(1))
    await idle(service)
    assert service.stats.transfers == {"completed": 1}


async def test_many_clients_at_once_leave_no_descriptor_behind(service: TftpService) -> None:
    before = len(os.listdir("/proc/self/fd"))
    clients = [Client(service) for _ in range(12)]
    contents = await asyncio.gather(*(client.read("Boot/BCD", blksize=1468, windowsize=8) for client in clients))
    assert contents == [CONTENT] * len(clients)
    await idle(service)
    for client in clients:
        client.sock.close()
    assert len(os.listdir("/proc/self/fd")) == before
