# SPDX-License-Identifier: Apache-2.0
"""Reads by multicast over real sockets on loopback: who shares a stream, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.tftp_site import SETTINGS, Client, idle, tree_of

from dpd.protocol.tftp.packet import Ack, Data, Error, OptionAck, decode
from dpd.service.network.udp import join_group, open_udp
from dpd.service.tftp.extents import OpenFile
from dpd.service.tftp.server import TftpService
from dpd.telemetry.journal import BootJournal

CONTENT = bytes(range(256)) * 30 + b"end"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[TftpService]:
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "long").write_bytes(bytes(512 * 65536))
    service = TftpService(replace(SETTINGS, multicast=True), tree_of(tmp_path), journal=BootJournal())
    await service.start()
    yield service
    await service.stop()


class Member(Client):
    """A client that can listen to a group as well."""

    def ask_for_multicast(self, name: str, **options: int) -> None:
        self.peer = self.server
        words = [name, "octet", "multicast", ""]
        for option, value in options.items():
            words += [option, str(value)]
        self.say(b"\0\1" + b"".join(word.encode() + b"\0" for word in words))

    async def offered(self) -> tuple[str, int, int]:
        """Group, port, and whether this client is the master."""
        message = await self.hear()
        assert isinstance(message, OptionAck)
        group, port, master = dict(message.options)["multicast"].split(",")
        return group, int(port), int(master)


def listen(group: str, port: int) -> socket.socket:
    sock = open_udp("0.0.0.0", port, reuse_address=True)
    join_group(sock, group, "127.0.0.1")
    return sock


async def hear(sock: socket.socket) -> Data:
    wire, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(sock, 65536), 5)
    message = decode(wire)
    assert isinstance(message, Data)
    return message


async def test_two_clients_share_one_stream(service: TftpService) -> None:
    first, second = Member(service), Member(service)
    with closing(first.sock), closing(second.sock):
        first.ask_for_multicast("file", blksize=512)
        group, port, master = await first.offered()
        assert (port, master) == (1758, 1)
        assert group.startswith("239.255.69.")
        second.ask_for_multicast("file", blksize=512)
        assert await second.offered() == (group, 1758, 0)
        with listen(group, port) as one:
            received = bytearray()
            for number in range(16):
                first.say(Ack(number))
                data = await hear(one)
                assert data.block_number == number + 1
                received += data.payload
            assert received == CONTENT
            second.say(Ack(16))
            first.say(Ack(16))
            await idle(service)
            assert service.stats.transfers == {"completed": 2}
            assert service.stats.payload_bytes == 2 * len(CONTENT)
            assert service.stats.datagrams == 16 + 2  # the file once, an offer for each


async def test_a_client_that_does_not_ask_for_it_reads_alone(service: TftpService) -> None:
    member, alone = Member(service), Client(service)
    with closing(member.sock), closing(alone.sock):
        member.ask_for_multicast("file", blksize=512)
        await member.offered()
        assert await alone.read("file", blksize=512) == CONTENT


@pytest.mark.parametrize(("name", "options"), [("file", {"blksize": 1024}), ("other", {"blksize": 512})])
async def test_another_file_or_blksize_is_another_group(
    service: TftpService, name: str, options: dict[str, int]
) -> None:
    first, second = Member(service), Member(service)
    with closing(first.sock), closing(second.sock):
        first.ask_for_multicast("file", blksize=512)
        second.ask_for_multicast(name, **options)
        one, two = await first.offered(), await second.offered()
        assert one[0] != two[0]
        assert one[2] == two[2] == 1


async def test_a_file_of_too_many_blocks_is_read_alone(service: TftpService) -> None:
    member = Member(service)
    with closing(member.sock):
        member.ask_for_multicast("long", tsize=0)
        assert await member.hear() == OptionAck((("tsize", str(512 * 65536)),))


async def test_a_lost_offer_is_asked_for_again(service: TftpService) -> None:
    member = Member(service)
    with closing(member.sock):
        member.ask_for_multicast("file")
        offer = await member.offered()
        member.ask_for_multicast("file")
        assert await member.offered() == offer
        assert service.stats.ignored == {"repeated_request": 1}


async def test_another_request_from_the_same_port_leaves_the_group(service: TftpService) -> None:
    first, second = Member(service), Member(service)
    with closing(first.sock), closing(second.sock):
        first.ask_for_multicast("file")
        await first.offered()
        second.ask_for_multicast("file")
        await second.offered()
        first.peer = first.server
        assert await first.read("other") == b"other"
        assert (await second.offered())[2] == 1
    assert service.stats.transfers["aborted"] == 1


async def test_stop_tells_every_member_and_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    before = len(os.listdir("/proc/self/fd"))
    service = TftpService(replace(SETTINGS, multicast=True), tree_of(tmp_path), journal=BootJournal())
    await service.start()
    with ExitStack() as opened:
        members = [Member(service) for _ in range(3)]
        for member in members:
            opened.enter_context(closing(member.sock))
            member.ask_for_multicast("file")
            await member.offered()
        await service.stop()
        for member in members:
            assert await member.hear() == Error(0, "the server is stopping")
    assert service.stats.transfers == {"aborted": 3}
    assert len(os.listdir("/proc/self/fd")) == before


async def test_multicast_is_off_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    service = TftpService(SETTINGS, tree_of(tmp_path), journal=BootJournal())
    await service.start()
    member = Member(service)
    with closing(member.sock):
        member.ask_for_multicast("file", tsize=0)
        assert await member.hear() == OptionAck((("tsize", str(len(CONTENT))),))
    await service.stop()


async def test_an_error_of_the_disk_ends_the_group_alone(service: TftpService, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    member = Member(service)
    with closing(member.sock):
        member.ask_for_multicast("file")
        await member.offered()
        with monkeypatch.context() as patch:
            patch.setattr(OpenFile, "at_once", broken)  # a disk that fails is not to be had otherwise
            member.say(Ack(0))
            assert await member.hear() == Error(0, "server error")
        assert service.stats.failures == 1
        assert service.stats.transfers == {"aborted": 1}
        assert service.stats.active == 0
        member.ask_for_multicast("file")
        assert (await member.offered())[2] == 1
