# SPDX-License-Identifier: Apache-2.0
"""The TFTP service over real sockets on loopback, with a client of this file's own and files on the real disk."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.content.boot_files import BootFiles
from dpd.errors import ServiceError
from dpd.protocol.tftp.packet import Ack, Data, Error, Message, OptionAck, ReadRequest, WriteRequest, decode, encode
from dpd.service import tftp
from dpd.service.tftp import TftpService
from dpd.service.udp import open_udp
from dpd.settings import Settings, TftpSettings
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:12:34:56"
SETTINGS = TftpSettings(listen="0.0.0.0", port=0, timeout_s=5.0)
CONTENT = bytes(range(256)) * 4000  # four extents


class Client:
    """One socket that says and hears TFTP without blocking the loop."""

    def __init__(self, service: TftpService, server: str = "127.0.0.1") -> None:
        self.server = (server, service.ports["tftp"])
        self.sock = open_udp("127.0.0.1", 0, broadcast=True)
        self.peer = self.server

    def ask(self, name: str, mode: str = "octet", /, **options: int) -> None:
        asked = tuple((option, str(value)) for option, value in options.items())
        self.sock.sendto(encode(ReadRequest(name, mode, asked)), self.server)

    def say(self, message: Message | bytes) -> None:
        self.sock.sendto(message if isinstance(message, bytes) else encode(message), self.peer)

    async def hear(self) -> Message:
        loop = asyncio.get_running_loop()
        wire, self.peer = await asyncio.wait_for(loop.sock_recvfrom(self.sock, 65536), 5)
        return decode(wire)

    def heard_nothing(self) -> bool:
        """To be asked after the server has answered something sent later."""
        try:
            self.sock.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    async def read(self, name: str, **options: int) -> bytes:
        """The whole file, acknowledged window by window."""
        self.ask(name, **options)
        content, block, blksize, window = bytearray(), 0, 512, 1
        while True:
            match await self.hear():
                case OptionAck(granted):
                    blksize = int(dict(granted).get("blksize", 512))
                    window = int(dict(granted).get("windowsize", 1))
                    self.say(Ack(0))
                case Data(number, payload):
                    assert number == (block + 1) & 0xFFFF
                    block += 1
                    content += payload
                    last = len(payload) < blksize
                    if last or block % window == 0:
                        self.say(Ack(number))
                    if last:
                        return bytes(content)
                case other:
                    raise AssertionError(other)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    below = tmp_path / "boot"
    (below / "Boot").mkdir(parents=True)
    (below / "Boot" / "BCD").write_bytes(CONTENT)
    (below / "empty").write_bytes(b"")
    (below / "small").write_bytes(b"small")
    return below


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest.fixture
async def service(directory: Path, journal: BootJournal) -> AsyncIterator[TftpService]:
    service = TftpService(SETTINGS, BootFiles(directory), journal=journal)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def client(service: TftpService) -> Iterator[Client]:
    client = Client(service)
    with closing(client.sock):
        yield client


async def idle(service: TftpService) -> None:
    """Once no transfer runs; the request port stays open."""
    await asyncio.wait_for(service._idle.wait(), 5)


def live(service: TftpService, **changes: object) -> None:
    """What the daemon does after SIGHUP."""
    service.apply(Settings(tftp=replace(SETTINGS, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"blksize": 1456}, {"blksize": 1468, "windowsize": 16, "tsize": 0}])
async def test_a_file_arrives_whole(service: TftpService, client: Client, options: dict[str, int]) -> None:
    assert await client.read("\\boot\\bcd", **options) == CONTENT
    await idle(service)
    assert service.stats.transfers == {"completed": 1}
    assert service.stats.payload_bytes == len(CONTENT)
    assert service.stats.retransmits == service.stats.active == 0


async def test_an_empty_file_is_one_empty_block(client: Client) -> None:
    assert await client.read("empty") == b""


async def test_every_end_is_one_log_record_and_one_line_of_the_machines_story(
    service: TftpService, client: Client, journal: BootJournal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.bind("127.0.0.1", MAC)
    caplog.set_level(logging.INFO, tftp.__name__)
    await client.read("small", blksize=1024, windowsize=4)
    await idle(service)
    (record,) = caplog.records
    assert record.getMessage() == "tftp transfer"
    fields = vars(record)
    assert {
        key: fields[key] for key in ("peer", "file", "verdict", "bytes", "blksize", "windowsize", "retransmits")
    } == {
        "peer": "127.0.0.1",
        "file": "small",
        "verdict": "completed",
        "bytes": 5,
        "blksize": 1024,
        "windowsize": 4,
        "retransmits": 0,
    }
    assert fields["seconds"] < 5
    (event,) = journal.story(MAC)
    assert (event.event, event.fields["file"], event.fields["verdict"]) == ("tftp", "small", "completed")


async def test_the_transfer_comes_from_the_address_that_was_asked_and_a_port_of_its_own(service: TftpService) -> None:
    client = Client(service, server="127.0.0.5")
    with closing(client.sock):
        client.ask("small")
        await client.hear()
        assert client.peer[0] == "127.0.0.5"
        assert client.peer[1] != service.ports["tftp"]


async def test_ipv6_is_served_as_well(directory: Path, journal: BootJournal) -> None:
    try:
        open_udp("::1", 0).close()
    except ServiceError:
        pytest.skip("this machine has no IPv6 loopback")
    service = TftpService(replace(SETTINGS, listen="::"), BootFiles(directory), journal=journal)
    await service.start()
    client = Client(service, server="::1")
    client.sock.close()
    client.sock = open_udp("::1", 0)
    with closing(client.sock):
        assert await client.read("Boot/BCD", blksize=1428, windowsize=8) == CONTENT
        assert client.peer[0] == "::1"
    await service.stop()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.efi", 'no boot file "absent.efi": not in the index'),
        ("../small", 'no boot file "../small": the name holds ".."'),
        ("Boot/../../etc/shadow", 'no boot file "Boot/../../etc/shadow": the name holds ".."'),
        ("/etc/passwd", 'no boot file "/etc/passwd": not in the index'),
        ("C:\\Boot\\BCD", 'no boot file "C:\\Boot\\BCD": the name starts with a drive letter'),
        ("\\\\server\\share\\x", 'no boot file "\\\\server\\share\\x": not in the index'),
        ("a" * 300, f'no boot file "{"a" * 77}...": the name has 300 characters, at most 255 are allowed'),
        ("Boot", 'no boot file "Boot": not in the index'),
    ],
)
async def test_a_name_outside_the_index_gets_error_1(
    service: TftpService, client: Client, name: str, message: str
) -> None:
    client.ask(name, tsize=0)
    assert await client.hear() == Error(1, message)
    assert service.stats.refused == {"not_found": 1}
    assert service.stats.transfers == {"refused": 1}


@pytest.mark.parametrize(
    ("wire", "reason", "message"),
    [
        (b"\0\1" + b"a" * 600 + b"\0octet\0", "request_too_long", "609 bytes, expected at most 512"),
        (b"\0\1small\0.efi\0octet\0", "options_unpaired", "expected name and value for each option"),
        (b"\0\1small\0octet", "unterminated", "the last string has no NUL"),
        (b"\0\1sm\xe4ll\0octet\0", "not_ascii", "expected printable ASCII"),
    ],
)
async def test_a_malformed_request_is_answered_and_counted(
    service: TftpService, client: Client, wire: bytes, reason: str, message: str
) -> None:
    client.say(wire)
    assert await client.hear() == Error(4, f"{reason}: {message}")
    assert service.stats.malformed == {reason: 1}


async def test_what_is_no_request_is_counted_and_not_answered(service: TftpService, client: Client) -> None:
    for wire in (b"", b"\0", b"\0\x09xx", encode(Ack(1)), encode(Data(1, b"x")), encode(Error(0, "x"))):
        client.say(wire)
    client.ask("small")
    assert await client.hear() == Data(1, b"small")  # and nothing before it
    assert service.stats.malformed == {"too_short": 2, "opcode": 1}
    assert service.stats.ignored == {"no_transfer": 3}


async def test_writing_and_other_modes_are_refused(service: TftpService, client: Client) -> None:
    client.say(WriteRequest("small"))
    assert await client.hear() == Error(2, "this server is read-only")
    client.ask("small", "netascii")
    assert await client.hear() == Error(4, "only mode octet is served")
    assert service.stats.refused == {"write": 1, "mode": 1}


async def test_a_broadcast_request_meets_silence(service: TftpService, client: Client) -> None:
    client.sock.sendto(encode(ReadRequest("small")), ("127.255.255.255", service.ports["tftp"]))
    client.ask("empty")
    assert await client.hear() == Data(1, b"")
    assert client.heard_nothing()
    assert service.stats.refused == {"broadcast": 1}


async def test_limits_meet_silence_so_that_the_client_asks_again(service: TftpService, client: Client) -> None:
    live(service, max_transfers=1)
    client.ask("small")
    await client.hear()
    second = Client(service)
    with closing(second.sock):
        second.ask("small")
        client.ask("absent")  # from the port of a running transfer: answers after the second's request was dropped
        assert await client.hear() == Error(1, 'no boot file "absent": not in the index')
        assert second.heard_nothing()
        assert service.stats.refused["max_transfers"] == 1
        assert await second.read("small") == b"small"


async def test_one_address_cannot_take_every_transfer(service: TftpService, client: Client) -> None:
    live(service, max_transfers_per_client=1)
    client.ask("small")
    await client.hear()
    second = Client(service)
    other = Client(service)
    other.sock.close()
    other.sock = open_udp("127.0.0.9", 0)
    with closing(second.sock), closing(other.sock):
        second.ask("small")
        assert await other.read("small") == b"small"
        assert second.heard_nothing()
    assert service.stats.refused == {"max_transfers_per_client": 1}


async def test_new_limits_hold_for_new_transfers(service: TftpService, client: Client) -> None:
    live(service, max_blksize=600, max_windowsize=2)
    client.ask("small", blksize=1468, windowsize=64)
    assert await client.hear() == OptionAck((("blksize", "600"), ("windowsize", "2")))


async def test_a_repeated_request_does_not_start_a_second_transfer(service: TftpService, client: Client) -> None:
    client.ask("small")
    client.ask("small")
    assert await client.hear() == Data(1, b"small")
    client.say(Ack(1))
    await idle(service)
    assert client.heard_nothing()
    assert service.stats.ignored == {"repeated_request": 1}
    assert service.stats.transfers == {"completed": 1}


async def test_a_new_request_from_the_same_port_replaces_the_old_transfer_without_an_error(
    service: TftpService, client: Client
) -> None:
    client.ask("Boot/BCD")
    assert isinstance(await client.hear(), Data)
    assert await client.read("small") == b"small"
    await idle(service)
    assert service.stats.transfers == {"aborted": 1, "completed": 1}


async def test_asking_for_the_size_and_aborting_is_a_probe(service: TftpService, client: Client) -> None:
    client.ask("Boot/BCD", tsize=0)
    assert await client.hear() == OptionAck((("tsize", str(len(CONTENT))),))
    client.say(Error(8, "User aborted the transfer"))
    await idle(service)
    assert service.stats.transfers == {"probe": 1}


async def test_a_silent_client_is_given_up(service: TftpService, client: Client) -> None:
    live(service, timeout_s=0.2, attempts=1)
    client.ask("small")
    await client.hear()
    await idle(service)
    assert service.stats.transfers == {"timeout": 1}
    assert service.stats.retransmits == 1


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


async def test_drain_lets_a_running_transfer_end_and_takes_no_other(service: TftpService, client: Client) -> None:
    client.ask("small", tsize=0)
    assert isinstance(await client.hear(), OptionAck)
    drained = asyncio.ensure_future(service.drain())
    await asyncio.sleep(0)
    late = Client(service)
    with closing(late.sock):
        late.ask("small")
        client.say(Ack(0))
        assert await client.hear() == Data(1, b"small")
        assert not drained.done()
        client.say(Ack(1))
        await asyncio.wait_for(drained, 5)
        assert late.heard_nothing()
    assert service.stats.transfers == {"completed": 1}


async def test_stop_tells_the_clients_and_may_come_twice(service: TftpService, client: Client) -> None:
    client.ask("Boot/BCD")
    await client.hear()
    await service.stop()
    await service.stop()
    assert await client.hear() == Error(0, "the server is stopping")
    assert service.stats.transfers == {"aborted": 1}


async def test_a_file_that_changed_is_refused_until_reload(
    service: TftpService, client: Client, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "small").write_bytes(b"changed")
    client.ask("small")
    assert await client.hear() == Error(2, "the file cannot be read now")
    assert "reload dpd to serve the new one" in caplog.records[0].reason  # type: ignore[attr-defined]
    service.boot_files.refresh()
    assert await client.read("small") == b"changed"


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
        patch.setattr(tftp, "read_cached", broken)  # a disk that fails is not to be had otherwise
        client.say(Ack(0))
        assert await client.hear() == Error(0, "server error")
    assert service.stats.failures == 1
    assert service.stats.transfers == {"aborted": 1}
    assert caplog.records[0].getMessage() == "tftp transfer failed"
    assert await client.read("small") == b"small"


async def test_many_clients_at_once_leave_no_descriptor_behind(service: TftpService) -> None:
    before = len(os.listdir("/proc/self/fd"))
    clients = [Client(service) for _ in range(12)]
    contents = await asyncio.gather(*(client.read("Boot/BCD", blksize=1468, windowsize=8) for client in clients))
    assert contents == [CONTENT] * len(clients)
    await idle(service)
    for client in clients:
        client.sock.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_port_in_use_is_told(service: TftpService, directory: Path) -> None:
    port = service.ports["tftp"]
    second = TftpService(replace(SETTINGS, port=port), BootFiles(directory), journal=BootJournal())
    with pytest.raises(ServiceError, match=rf"^TFTP \(0\.0\.0\.0 UDP {port}\): port {port} is in use; `ss -Hulpn"):
        await second.start()
    await second.stop()
