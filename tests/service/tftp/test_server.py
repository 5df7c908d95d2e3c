# SPDX-License-Identifier: Apache-2.0
"""The TFTP service over real sockets on loopback, with a client of this file's own and files on the real disk."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.tftp_site import SETTINGS, Client, idle, live, tree_of

from dpd.boot.tree import BootContext, BootObject, in_memory
from dpd.content.boot_files import BootFiles
from dpd.errors import ContentNotFound, ServiceError
from dpd.protocol.tftp.packet import Ack, Data, Error, OptionAck, ReadRequest, WriteRequest, encode
from dpd.service.boot_tree import BootTree
from dpd.service.network.udp import open_udp
from dpd.service.tftp import server as tftp
from dpd.service.tftp.server import TftpService
from dpd.settings import PxeSettings, PxeSubnet
from dpd.site.decision import Outcome
from dpd.site.tickets import BootTicket
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:12:34:56"
CONTENT = bytes(range(256)) * 4000  # four extents


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
    service = TftpService(SETTINGS, BootTree(BootFiles(directory), journal), journal=journal)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def client(service: TftpService) -> Iterator[Client]:
    client = Client(service)
    with closing(client.sock):
        yield client


@pytest.mark.parametrize("options", [{}, {"blksize": 1456}, {"blksize": 1468, "windowsize": 16, "tsize": 0}])
async def test_a_file_arrives_whole(service: TftpService, client: Client, options: dict[str, int]) -> None:
    assert await client.read("\\boot\\bcd", **options) == CONTENT
    await idle(service)
    assert service.stats.transfers == {"completed": 1}
    assert service.stats.payload_bytes == len(CONTENT)
    assert service.stats.active == 0


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
    service = TftpService(replace(SETTINGS, listen="::"), BootTree(BootFiles(directory), journal), journal=journal)
    await service.start()
    client = Client(service, server="::1", own="::1")
    with closing(client.sock):
        assert await client.read("Boot/BCD", blksize=1428, windowsize=8) == CONTENT
        assert client.peer[0] == "::1"
    await service.stop()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.efi", 'no boot file "absent.efi": not in the index'),
        ("/etc/passwd", 'no boot file "/etc/passwd": not in the index'),
        ("\\\\server\\share\\x", 'no boot file "\\\\server\\share\\x": not in the index'),
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
    ("name", "message"),
    [
        ("../small", 'bad file name: the name holds ".."'),
        ("Boot/../../etc/shadow", 'bad file name: the name holds ".."'),
        ("..\\..\\small", 'bad file name: the name holds ".."'),
        ("C:\\Boot\\BCD", "bad file name: the name starts with a drive letter"),
        ("a" * 300, "bad file name: the name has 300 characters, at most 255 are allowed"),
    ],
)
async def test_a_name_that_no_file_can_have_gets_error_2(
    service: TftpService, client: Client, name: str, message: str
) -> None:
    client.ask(name, tsize=0)
    assert await client.hear() == Error(2, message)
    assert service.stats.refused == {"bad_name": 1}


class Image:
    """The tree of one image with one file, for whoever has its ticket. `opened` lets a slow disk finish."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.fails = False

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        stored = in_memory(name, b"image of " + context.mac.encode())
        if image_id != "LAB00005" or name != "boot.wim":
            return None
        return replace(stored, open=lambda: self.open(stored), completes_boot=True, may_block=True)

    def open(self, stored: BootObject) -> int:
        assert self.opened.wait(5)
        if self.fails:
            raise ContentNotFound("the WIM is gone")
        return stored.open()

    def holds(self, name: str) -> bool:
        return name == "boot.wim"

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        return ""


class Desk:
    def __init__(self, *, lifetime_s: float = 60) -> None:
        self.runs: list[str] = []
        self.ticket = BootTicket(
            "0" * 16, MAC, "", "uefi-x64", "127.0.0.1", Outcome.BOOT, "LAB00005", "", "", 0.0, lifetime_s
        )

    def ticket_at(self, address: str) -> BootTicket | None:
        return self.ticket if address == "127.0.0.1" else None

    def run_started(self, address: str) -> None:
        self.runs.append(address)

    def enter_pin(self, address: str, pin: str) -> bool:
        return False


async def with_image(service: TftpService, desk: Desk) -> Image:
    image = Image()
    service._tree = BootTree(service._tree.boot_files, service.journal, desk=desk, images=image, clock=lambda: 30.0)
    return image


async def test_a_ticket_opens_its_image_while_others_are_served(service: TftpService, client: Client) -> None:
    """A WIM that is taken apart holds up nobody but him who waits for it, and he may ask again meanwhile."""
    desk = Desk()
    image = await with_image(service, desk)
    client.ask("boot.wim")
    client.ask("boot.wim")
    other = Client(service)
    with closing(other.sock):
        assert await other.read("small") == b"small"
    assert client.heard_nothing()
    image.opened.set()
    assert await client.hear() == Data(1, b"image of " + MAC.encode())
    assert desk.runs == []
    client.say(Ack(1))
    await idle(service)
    assert desk.runs == ["127.0.0.1"]
    assert service.stats.ignored == {"repeated_request": 1}


async def test_without_a_ticket_error_2_says_so(service: TftpService) -> None:
    await with_image(service, Desk())
    client = Client(service, own="127.0.0.9")
    with closing(client.sock):
        client.ask("boot.wim")
        assert await client.hear() == Error(
            2, "no boot ticket: this address has not asked for a network boot and been granted it"
        )
    assert service.stats.refused == {"no_ticket": 1}


async def test_an_expired_ticket_gets_error_2(service: TftpService, client: Client) -> None:
    await with_image(service, Desk(lifetime_s=10))
    client.ask("boot.wim")
    assert await client.hear() == Error(2, "the boot ticket has expired: boot the machine anew")
    assert service.stats.refused == {"ticket_expired": 1}


async def test_an_image_that_cannot_be_opened_is_refused(service: TftpService, client: Client) -> None:
    image = await with_image(service, Desk())
    image.fails = True
    image.opened.set()
    client.ask("boot.wim")
    assert await client.hear() == Error(2, "the file cannot be read now")
    assert service.stats.refused == {"unreadable": 1}
    await idle(service)


async def test_a_file_opened_too_late_is_closed_again(service: TftpService, client: Client) -> None:
    image = await with_image(service, Desk())
    client.ask("boot.wim")
    other = Client(service)
    with closing(other.sock):
        assert await other.read("small") == b"small"
    before = len(os.listdir("/proc/self/fd"))
    await service.stop()
    image.opened.set()
    await idle(service)
    assert len(os.listdir("/proc/self/fd")) < before  # the request port is closed, the file is not left open
    assert client.heard_nothing()


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
    other = Client(service, own="127.0.0.9")
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
    service._tree.boot_files.refresh()
    assert await client.read("small") == b"changed"


async def test_a_port_in_use_is_told(service: TftpService, directory: Path) -> None:
    port = service.ports["tftp"]
    second = TftpService(replace(SETTINGS, port=port), tree_of(directory), journal=BootJournal())
    with pytest.raises(ServiceError, match=rf"^TFTP \(0\.0\.0\.0 UDP {port}\): port {port} is in use; `ss -Hulpn"):
        await second.start()
    await second.stop()


async def test_a_block_fits_the_interface_and_the_subnet(service: TftpService, client: Client) -> None:
    """Loopback has a packet of 65536 bytes; what the operator says of a subnet counts alone."""
    live(service, max_blksize=65464)
    client.ask("Boot/BCD", blksize=65464)
    assert await client.hear() == OptionAck((("blksize", "65464"),))
    client.say(Error(8, "enough"))
    await idle(service)
    subnet = PxeSubnet(network="127.0.0.0/8", max_blksize=1200)
    live(service, pxe=PxeSettings(subnet=(subnet,)), max_blksize=65464)
    client.peer = client.server
    client.ask("Boot/BCD", blksize=65464)
    assert await client.hear() == OptionAck((("blksize", "1200"),))


async def test_who_asks_too_often_meets_silence(service: TftpService, client: Client) -> None:
    live(service, requests_per_s=2)
    for _ in range(3):
        client.ask("absent")
    for _ in range(2):
        assert isinstance(await client.hear(), Error)
    other = Client(service, own="127.0.0.9")
    with closing(other.sock):
        assert await other.read("small") == b"small"
    assert client.heard_nothing()
    assert service.stats.refused["client_rate"] == 1


async def test_other_networks_meet_silence(service: TftpService, client: Client) -> None:
    live(service, allowed_networks=("127.0.0.9/32",))
    client.ask("small")
    other = Client(service, own="127.0.0.9")
    with closing(other.sock):
        assert await other.read("small") == b"small"
    assert client.heard_nothing()
    assert service.stats.refused == {"address": 1}
