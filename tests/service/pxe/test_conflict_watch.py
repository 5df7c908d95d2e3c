# SPDX-License-Identifier: Apache-2.0
"""The watch on loopback: answers of another server (127.0.0.2), requests that nobody answers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.service.waiting import until

from dpd.errors import ServiceError
from dpd.protocol.dhcp.message import BOOT_REPLY, Message, encode
from dpd.protocol.dhcp.options import Option, pack_address
from dpd.protocol.tftp.packet import ReadRequest
from dpd.protocol.tftp.packet import encode as encode_tftp
from dpd.service.pxe import conflict_watch
from dpd.service.pxe.conflict_watch import ConflictWatch, silent_subnets
from dpd.settings import PxeSettings, PxeSubnet, Settings, TftpSettings
from dpd.telemetry.journal import BootEvent, BootJournal

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a packet socket")

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
CLASS = (int(Option.VENDOR_CLASS), b"PXEClient")


def answer(
    *options: tuple[int, bytes], mac: str = MAC, xid: int = 1, yiaddr: str = "10.0.0.50", file: bytes = b""
) -> bytes:
    standing = ((int(Option.MESSAGE_TYPE), b"\2"), (int(Option.SERVER_ID), pack_address("10.0.0.2")))
    return encode(
        Message(BOOT_REPLY, xid, bytes.fromhex(mac.replace(":", "")), standing + options, yiaddr=yiaddr, file=file)
    )


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        yield sock


@pytest.fixture
def hole() -> Iterator[socket.socket]:
    """A TFTP port of which nothing is read."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
async def watch(
    journal: BootJournal, server: socket.socket, hole: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ConflictWatch]:
    monkeypatch.setattr(conflict_watch, "SETTLE_S", 0.01)
    settings = Settings(tftp=TftpSettings(port=hole.getsockname()[1]))
    watch = ConflictWatch(settings, journal=journal, server_ports=(server.getsockname()[1],))
    await watch.start()
    yield watch
    await watch.stop()


def offers(journal: BootJournal, mac: str = MAC) -> list[dict[str, str | int]]:
    return [event.fields for event in journal.story(mac) if event.event == "foreign_offer"]


@needs_root
async def test_what_another_server_says_is_in_the_machines_story(
    watch: ConflictWatch, journal: BootJournal, server: socket.socket, hole: socket.socket
) -> None:
    journal.note(MAC, "discover")
    server.sendto(answer(CLASS, file=b"old.efi"), hole.getsockname())
    await until(lambda: bool(offers(journal)))
    assert offers(journal) == [{"server": "10.0.0.2", "flags": "lease option60 file", "loader": "old.efi"}]
    assert watch.stats.conflicts == {"option60": 1, "file": 1}


@needs_root
async def test_a_repeated_answer_is_noted_once(
    watch: ConflictWatch, journal: BootJournal, server: socket.socket, hole: socket.socket
) -> None:
    journal.note(MAC, "discover")
    for xid in (1, 1, 1, 2):
        server.sendto(answer(xid=xid), hole.getsockname())
    await until(lambda: watch.stats.datagrams == 4)
    assert len(offers(journal)) == watch.stats.foreign_offers == 2
    assert watch.stats.conflicts == {}


@needs_root
async def test_machines_that_do_not_boot_get_no_story(
    watch: ConflictWatch, journal: BootJournal, server: socket.socket, hole: socket.socket
) -> None:
    server.sendto(answer(file=b"x"), hole.getsockname())
    await until(lambda: watch.stats.foreign_offers == 1)
    await asyncio.sleep(0.05)
    assert journal.machines() == []
    assert watch.stats.conflicts == {"file": 1}


@needs_root
async def test_an_answer_that_is_read_before_its_question_is_not_lost(
    watch: ConflictWatch,
    journal: BootJournal,
    server: socket.socket,
    hole: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conflict_watch, "SETTLE_S", 1.0)
    server.sendto(answer(), hole.getsockname())
    await until(lambda: watch.stats.foreign_offers == 1)
    journal.note(MAC, "discover")
    await until(lambda: bool(offers(journal)))


@needs_root
async def test_a_proxy_alone_shows_a_machine_that_dpd_does_not_hear(
    watch: ConflictWatch, journal: BootJournal, server: socket.socket, hole: socket.socket
) -> None:
    server.sendto(answer(CLASS, yiaddr="0.0.0.0"), hole.getsockname())
    await until(lambda: bool(offers(journal)))
    assert watch.stats.conflicts == {"proxy": 1}


@needs_root
async def test_each_servers_conflict_is_logged_once_an_hour(
    watch: ConflictWatch,
    server: socket.socket,
    hole: socket.socket,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for xid in range(3):
        server.sendto(answer(CLASS, xid=xid), hole.getsockname())
    await until(lambda: watch.stats.conflicts == {"option60": 3})
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "another server stands in the way of network boots"
    ]


@needs_root
async def test_garbage_is_counted_by_reason(watch: ConflictWatch, server: socket.socket, hole: socket.socket) -> None:
    server.sendto(b"x", hole.getsockname())  # no answer of a server, and no wake-up
    server.sendto(b"\2", hole.getsockname())
    server.sendto(answer()[:250] + b"\xff\xff\xff", hole.getsockname())
    await until(lambda: watch.stats.datagrams == 2)
    assert watch.stats.malformed["too_short"] == 1
    assert watch.stats.failures == 0


@needs_root
async def test_a_tftp_request_is_noted_when_it_comes_again(
    watch: ConflictWatch, journal: BootJournal, hole: socket.socket
) -> None:
    journal.note(MAC, "discover")
    journal.bind("127.0.0.3", MAC)
    request = encode_tftp(ReadRequest("ipxe.efi", "octet"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.3", 0))
        client.sendto(b"\0\4\0\1", hole.getsockname())  # an ACK, which costs no wake-up
        client.sendto(request, hole.getsockname())
        await until(lambda: watch.stats.datagrams == 1)
        assert [event.event for event in journal.story(MAC)] == ["discover"]
        client.sendto(request, hole.getsockname())
        await until(lambda: len(journal.story(MAC)) == 2)
        for _ in range(2):
            client.sendto(b"\0\1noise", hole.getsockname())
        await until(lambda: sum(watch.stats.malformed.values()) == 1)
    assert watch.stats.datagrams == 4
    assert journal.story(MAC)[1].fields == {"file": "ipxe.efi", "server": "127.0.0.1"}


async def test_two_machines_with_one_guid_are_counted(watch: ConflictWatch, journal: BootJournal) -> None:
    for mac in (MAC, OTHER):
        journal.note(mac, "discover", guid="feed")
    assert watch.stats.conflicts == {"duplicate_guid": 1}


async def test_without_permission_the_watch_says_so_and_is_off(
    journal: BootJournal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ServiceError("conflict watch: not permitted, a packet socket needs CAP_NET_RAW")

    monkeypatch.setattr(conflict_watch, "open_packet_socket", refuse)
    caplog.set_level(logging.INFO)
    watch = ConflictWatch(Settings(), journal=journal)
    await watch.start()
    assert watch.stats.is_watching == 0
    assert "conflict watch is off" in caplog.text
    await watch.drain()
    await watch.stop()
    await watch.stop()


@needs_root
async def test_a_watch_that_stopped_watches_no_more(
    watch: ConflictWatch, journal: BootJournal, server: socket.socket, hole: socket.socket
) -> None:
    assert watch.stats.is_watching == 1
    await watch.stop()
    journal.note(MAC, "discover")
    server.sendto(answer(), hole.getsockname())
    await asyncio.sleep(0.05)
    assert journal.story(MAC) == [BootEvent(journal.story(MAC)[0].at, "discover", {})]


def test_subnets_from_which_nothing_comes() -> None:
    subnets = tuple(PxeSubnet(network=net) for net in ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "fd00::/64"))
    settings = Settings(pxe=PxeSettings(subnet=subnets))
    assert silent_subnets(settings, {"10.1.0.1": 5.0, "fd00::1": 5.0}, frozenset({"10.2.0.9"})) == ["10.3.0.0/16"]
