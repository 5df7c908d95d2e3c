# SPDX-License-Identifier: Apache-2.0
"""The proxyDHCP service over real sockets on loopback, high ports, no privilege."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.data.dhcp_vectors import VECTORS
from tests.service.waiting import until

from dpd.errors import ServiceError
from dpd.protocol.dhcp.message import MessageType, decode, encode
from dpd.protocol.pxe.client import BootAnswer, PxeClient
from dpd.protocol.pxe.rules import ClientClass
from dpd.service.pxe.proxy_dhcp import PxeService
from dpd.settings import PxeRule, PxeSettings, Settings
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:00:00:01"
CLIENT = PxeClient(mac=MAC, relay="127.0.0.1")
SETTINGS = PxeSettings(listen="0.0.0.0", port=0, boot_port=0)


class Booter:
    """A client's socket and what it says to the service."""

    def __init__(self, service: PxeService, address: str = "127.0.0.1") -> None:
        self.service = service
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.sock.bind((address, 0))

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def send(self, data: bytes, *, key: str = "port", to: str = "127.0.0.1") -> None:
        self.sock.sendto(data, (to, self.service.ports[key]))

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.sock, 2048), 5)

    async def answer(self, xid: int, client: PxeClient = CLIENT) -> BootAnswer:
        answer = client.read(await self.receive(), xid)
        assert answer is not None
        return answer


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest_asyncio.fixture
async def service(journal: BootJournal) -> AsyncIterator[PxeService]:
    service = PxeService(SETTINGS, http_port=8080, journal=journal)
    await service.start()
    yield service
    await service.stop()


@pytest_asyncio.fixture
async def booter(service: PxeService) -> AsyncIterator[Booter]:
    booter = Booter(service)
    yield booter
    booter.sock.close()


def apply(service: PxeService, **changes: object) -> None:
    service.apply(Settings(pxe=replace(SETTINGS, **changes)))  # type: ignore[arg-type]


async def test_discover_offer_and_4011(service: PxeService, booter: Booter, journal: BootJournal) -> None:
    booter.send(CLIENT.discover(1))
    assert await booter.answer(1) == BootAnswer(MessageType.OFFER, "127.0.0.1", "ipxe.efi", False)
    booter.send(CLIENT.boot_request(2, "127.0.0.1"), key="boot_port")
    assert await booter.answer(2) == BootAnswer(MessageType.ACK, "127.0.0.1", "ipxe.efi", False)

    assert service.stats.datagrams == 2
    assert service.stats.discovers == {"uefi-x64": 1}
    assert service.stats.offers == {"PXEClient": 1}
    assert service.stats.boot_requests == {"uefi-x64": 1}
    assert service.stats.acks == {"PXEClient": 1}
    assert [event.event for event in journal.story(MAC)] == [
        "discover",
        "decision",
        "offer",
        "boot_request",
        "decision",
        "boot_reply",
    ]
    journal.note_address("127.0.0.1", "tftp")  # the address was learnt at 4011
    assert journal.story(MAC)[-1].event == "tftp"


async def test_http_client_is_offered_the_port_of_our_http(booter: Booter) -> None:
    client = replace(CLIENT, client_class=ClientClass.HTTP, client_arch=16)
    booter.send(client.discover(1))
    assert (await booter.answer(1, client)).loader == "http://127.0.0.1:8080/boot/ipxe.efi"


async def test_a_broadcast_is_answered_by_broadcast_with_the_interfaces_address(service: PxeService) -> None:
    """As firmware does it, but for the port: client on 0.0.0.0, no giaddr, answer to 255.255.255.255."""
    booter = Booter(service, "0.0.0.0")
    apply(service, client_port=booter.port)
    client = replace(CLIENT, relay="")
    booter.send(client.discover(1), to="127.255.255.255")
    offer = decode(await booter.receive())
    booter.sock.close()
    assert offer.siaddr == "127.0.0.1"
    assert offer.giaddr == "0.0.0.0"


async def test_malformed_and_foreign_messages_are_counted_and_change_nothing(
    service: PxeService, booter: Booter
) -> None:
    booter.send(b"")
    booter.send(b"x" * 400)
    booter.send(VECTORS["edk2-x64-discover"][:270])
    booter.send(VECTORS["udhcpc-discover"])
    booter.send(VECTORS["dnsmasq-proxy-ack"])
    booter.send(VECTORS["edk2-x64-boot-request"])
    booter.send(VECTORS["edk2-x64-discover"], key="boot_port")
    booter.send(CLIENT.discover(1))
    await booter.answer(1)  # the first and only answer is to the last message
    await until(lambda: service.stats.datagrams == 8)  # the two ports are read in no particular order
    assert service.stats.malformed == {"too_short": 1, "no_magic_cookie": 1, "option_truncated": 1}
    assert service.stats.ignored == {
        "not_network_boot": 1,
        "not_a_request": 1,
        "lease_request": 1,
        "wrong_port": 1,
    }
    assert service.stats.failures == 0


async def test_a_fault_of_our_own_costs_one_datagram(
    service: PxeService, booter: Booter, caplog: pytest.LogCaptureFixture
) -> None:
    apply(service, server_address="not an address")  # settings would refuse it
    booter.send(CLIENT.discover(1))
    await until(lambda: bool(service.stats.failures))
    apply(service)
    booter.send(CLIENT.discover(2))
    await booter.answer(2)
    assert "datagram not handled" in caplog.text


async def test_lease_request_tells_the_address_of_a_client_that_skips_4011(
    service: PxeService, booter: Booter, journal: BootJournal
) -> None:
    booter.send(VECTORS["edk2-x64-lease-request"])
    booter.send(CLIENT.discover(1))
    await booter.answer(1)
    journal.note_address("10.77.0.100", "tftp")
    ignored, tftp = journal.story("52:54:00:77:03:04")
    assert ignored.fields == {"reason": "lease_request", "address": "10.77.0.100", "lease_server": "10.77.0.2"}
    assert tftp.event == "tftp"


async def test_live_settings(service: PxeService, booter: Booter, journal: BootJournal) -> None:
    apply(service, respond=False)
    booter.send(CLIENT.discover(1))
    await until(lambda: bool(service.stats.ignored))
    assert service.stats.ignored == {"switched_off": 1}
    assert [event.event for event in journal.story(MAC)] == ["discover", "ignored"]

    apply(service, rule=(PxeRule(name="all", client_class="PXEClient", loader="grub.efi"),))
    booter.send(CLIENT.discover(2))
    assert (await booter.answer(2)).loader == "grub.efi"

    apply(service, response_delay_s=4)
    booter.send(CLIENT.discover(3))
    booter.send(CLIENT.discover(4, secs=4))
    await booter.answer(4)
    assert service.stats.ignored["too_early"] == 1

    apply(service, server_address="192.0.2.7")
    booter.send(CLIENT.discover(5))
    assert (await booter.answer(5)).server == "192.0.2.7"


async def test_other_interfaces_are_left_alone(
    service: PxeService, booter: Booter, caplog: pytest.LogCaptureFixture
) -> None:
    apply(service, interfaces=("no-such0",))
    assert caplog.records[-1].__dict__["interfaces"] == "no-such0"
    booter.send(CLIENT.discover(1))
    await until(lambda: bool(service.stats.ignored))
    assert service.stats.ignored == {"other_interface": 1}
    apply(service, interfaces=("lo",))
    booter.send(CLIENT.discover(2))
    await booter.answer(2)


async def test_an_answer_that_the_kernel_refuses_is_counted(
    service: PxeService, booter: Booter, journal: BootJournal
) -> None:
    """From 127.0.0.1 the kernel sends nothing to another network: EINVAL, or no route at all."""
    stray = replace(decode(CLIENT.discover(1)), giaddr="203.0.113.1")
    booter.send(encode(stray))
    booter.send(CLIENT.discover(2))
    await booter.answer(2)
    assert service.stats.send_failures == 1
    assert service.stats.failures == 0
    assert [event.event for event in journal.story(MAC)] == [
        "discover",
        "decision",
        "send_failed",
        "discover",
        "decision",
        "offer",
    ]


async def test_retries_of_a_machine_are_news_once(
    service: PxeService, booter: Booter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dpd.service.pxe.answers")
    other = replace(CLIENT, mac="52:54:00:00:00:02")
    for xid, client in enumerate((CLIENT, CLIENT, other, CLIENT)):
        booter.send(client.discover(xid))
        await booter.answer(xid, client)
    told = [record.__dict__["mac"] for record in caplog.records if record.message == "boot client answered"]
    assert told == [CLIENT.mac, other.mac]
    assert caplog.records[-1].__dict__["loader"] == "ipxe.efi"


async def test_a_taken_port_is_named_and_nothing_stays_bound(journal: BootJournal) -> None:
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    free.bind(("127.0.0.1", 0))
    port, boot_port = free.getsockname()[1], taken.getsockname()[1]
    free.close()
    service = PxeService(
        PxeSettings(listen="127.0.0.1", port=port, boot_port=boot_port), http_port=8080, journal=journal
    )
    with pytest.raises(ServiceError, match=f"boot server .*{boot_port} is in use"):
        await service.start()
    taken.close()
    await service.start()  # possible only if the first port was given back
    assert service.ports == {"port": port, "boot_port": boot_port}
    await service.stop()


async def test_stop_and_drain_give_the_ports_back(service: PxeService, journal: BootJournal) -> None:
    ports = dict(service.ports)
    await service.drain()
    await service.stop()
    again = PxeService(
        replace(SETTINGS, port=ports["port"], boot_port=ports["boot_port"]), http_port=8080, journal=journal
    )
    await again.start()
    assert again.ports == ports
    await again.stop()
