# SPDX-License-Identifier: Apache-2.0
"""The DHCPv6 service over real sockets on loopback, high ports, no privilege.

Clients ask as through a relay that wants its answers at the port it asks from (RFC 8357), since ports below 1024 and
multicast belong to interop tests; at the boot port they ask as themselves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.data.dhcp6_vectors import VECTORS
from tests.protocol.pxe.firmware6 import read_http_offer, read_pxe_offer
from tests.protocol.pxe.test_identity6 import changed
from tests.service.waiting import until

from dpd.errors import ServiceError
from dpd.protocol.dhcp6.message import Packet, Relay, decode, encode
from dpd.protocol.pxe.responder6 import RELAY_SOURCE_PORT
from dpd.service.pxe import dhcp6 as pxe6
from dpd.service.pxe.answers6 import own_duid
from dpd.service.pxe.dhcp6 import Pxe6Service
from dpd.settings import PxeRule, PxeSettings, PxeSubnet, Settings
from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:77:05:0b"
RELAY = Relay(12, 0, "::1", "fe80::5054:ff:fe77:50b", ((RELAY_SOURCE_PORT, b"\0\0"),))
PXE = decode(VECTORS["edk2-pxe-solicit"])
HTTP = decode(VECTORS["edk2-http-solicit"])
BOOT_REQUEST = changed(decode(VECTORS["edk2-boot-request"]), SERVER_ID=own_duid(), CLIENT_ID=PXE.message.option(1))
SETTINGS = PxeSettings(port6=0, boot_port=0)


class Booter:
    """A client's socket, or its relay's, and what it says to the service."""

    def __init__(self, service: Pxe6Service) -> None:
        self.service = service
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("::1", 0))

    def send(self, data: bytes, key: str = "port6") -> None:
        self.sock.sendto(data, ("::1", self.service.ports[key]))

    def ask(self, packet: Packet, relay: Relay = RELAY) -> None:
        self.send(encode(replace(packet, relays=(relay,))))

    async def receive(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 2048), 5)

    async def answer(self) -> Packet:
        return decode(await self.receive())


@pytest.fixture
def journal() -> BootJournal:
    return BootJournal()


@pytest_asyncio.fixture
async def service(journal: BootJournal) -> AsyncIterator[Pxe6Service]:
    service = Pxe6Service(SETTINGS, http_port=8080, journal=journal)
    await service.start()
    yield service
    await service.stop()


@pytest_asyncio.fixture
async def booter(service: Pxe6Service) -> AsyncIterator[Booter]:
    booter = Booter(service)
    yield booter
    booter.sock.close()


def apply(service: Pxe6Service, **changes: object) -> None:
    service.apply(Settings(pxe=replace(SETTINGS, **changes)))  # type: ignore[arg-type]


async def test_solicit_advertise_and_4011(service: Pxe6Service, booter: Booter, journal: BootJournal) -> None:
    booter.ask(PXE)
    answer = await booter.answer()
    assert answer.relays == (Relay(13, 0, "::1", RELAY.peer_address, RELAY.options),)
    offer = read_pxe_offer(encode(Packet(answer.message)), PXE)
    assert offer is not None
    assert (offer.url, offer.server_id) == ("tftp://[::1]/ipxe.efi", own_duid())

    booter.send(encode(BOOT_REQUEST), "boot_port6")  # its source tells no MAC: the DUID does
    final = read_pxe_offer(await booter.receive(), BOOT_REQUEST)
    assert final is not None
    assert final.url == "tftp://[::1]/ipxe.efi"

    assert service.stats.datagrams == 2
    assert service.stats.solicits == {"uefi-x64": 1}
    assert service.stats.advertises == {"PXEClient": 1}
    assert service.stats.boot_requests == {"uefi-x64": 1}
    assert service.stats.replies == {"PXEClient": 1}
    events = [event.event for event in journal.story(MAC)]
    assert events == ["discover", "decision", "offer", "boot_request", "decision", "boot_reply"]
    journal.note_address("::1", "tftp")  # the address was learnt at 4011
    assert journal.story(MAC)[-1].event == "tftp"


async def test_the_reply_at_the_boot_port_waits_until_firmware_listens(
    service: Pxe6Service, booter: Booter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OVMF opens its port after it has asked, asks once, and hears for 3 s."""
    booter.ask(PXE)
    await booter.answer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    booter.send(encode(BOOT_REQUEST), "boot_port6")
    await booter.receive()
    assert 0.15 < loop.time() - began < 3

    monkeypatch.setattr(pxe6, "MAX_DELAYED", 0)  # a flood of requests is not kept in memory
    monkeypatch.setattr(pxe6, "BOOT_REPLY_DELAY_S", 3600.0)
    booter.send(encode(BOOT_REQUEST), "boot_port6")
    await booter.receive()


async def test_a_reply_that_waits_does_not_outlive_the_service(
    service: Pxe6Service, booter: Booter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pxe6, "BOOT_REPLY_DELAY_S", 0.05)
    booter.ask(PXE)
    await booter.answer()
    booter.send(encode(BOOT_REQUEST), "boot_port6")
    await until(lambda: bool(service.stats.boot_requests))
    await service.stop()
    await asyncio.sleep(0.1)
    assert service.stats.replies == {}
    assert service.stats.failures == 0


async def test_http_client_is_offered_the_port_of_our_http(booter: Booter) -> None:
    booter.ask(HTTP, replace(RELAY, peer_address="fe80::5054:ff:fed9:d601"))
    offer = read_http_offer(encode(Packet((await booter.answer()).message)), HTTP)
    assert offer is not None
    assert offer.url == "http://[::1]:8080/boot/ipxe.efi"


async def test_malformed_and_foreign_messages_are_counted_and_change_nothing(
    service: Pxe6Service, booter: Booter
) -> None:
    booter.send(b"")
    booter.send(VECTORS["edk2-pxe-solicit"][:-5])
    booter.send(b"\x0c" + bytes(33))
    booter.send(VECTORS["edk2-stack-solicit"])
    booter.send(VECTORS["dnsmasq-advertise"])
    booter.send(VECTORS["edk2-pxe-solicit"])  # straight to us: clients begin by multicast
    booter.ask(PXE)
    await booter.answer()  # the first and only answer is to the last message
    assert service.stats.malformed == {"too_short": 1, "option_truncated": 1, "no_relay_message": 1}
    assert service.stats.ignored == {"not_network_boot": 1, "not_a_request": 1, "no_hardware_address": 1}
    assert service.stats.failures == 0


async def test_a_fault_of_our_own_costs_one_datagram(
    service: Pxe6Service, booter: Booter, caplog: pytest.LogCaptureFixture
) -> None:
    apply(
        service, rule=(PxeRule(name="all", client_class="PXEClient", loader="ümläut.efi\udc80"),)
    )  # settings refuse it
    booter.ask(PXE)
    await until(lambda: bool(service.stats.failures))
    apply(service)
    booter.ask(PXE)
    await booter.answer()
    assert "datagram not handled" in caplog.text


async def test_live_settings(service: Pxe6Service, booter: Booter) -> None:
    apply(service, respond=False)
    booter.ask(PXE)
    await until(lambda: bool(service.stats.ignored))
    assert service.stats.ignored == {"switched_off": 1}

    apply(service, rule=(PxeRule(name="all", client_class="PXEClient", loader="grub.efi"),))
    booter.ask(PXE)
    assert b"tftp://[::1]/grub.efi" in await booter.receive()

    apply(service, response_delay_s=4)
    booter.ask(PXE)
    booter.ask(changed(PXE, ELAPSED_TIME=b"\x01\x90"))
    await booter.answer()
    assert service.stats.ignored["too_early"] == 1

    subnet = PxeSubnet(network="::/120", server_address="fd00::7", response_delay_s=0)
    apply(service, subnet=(subnet,))
    booter.ask(PXE)
    assert b"tftp://[fd00::7]/ipxe.efi" in await booter.receive()


async def test_other_interfaces_are_left_alone(service: Pxe6Service, booter: Booter) -> None:
    apply(service, interfaces=("no-such0",))
    booter.ask(PXE)
    await until(lambda: bool(service.stats.ignored))
    assert service.stats.ignored == {"other_interface": 1}
    apply(service, interfaces=("lo",))
    booter.ask(PXE)
    await booter.answer()


async def test_each_answer_is_told_once_in_the_log(
    service: Pxe6Service, booter: Booter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dpd.service.pxe.answers6")
    for _ in range(2):
        booter.ask(PXE)
        await booter.answer()
    told = [record for record in caplog.records if record.message == "boot client answered over IPv6"]
    assert [record.__dict__["mac"] for record in told] == [MAC]
    assert told[0].__dict__["loader"] == "tftp://[::1]/ipxe.efi"


async def test_a_taken_port_is_named_and_nothing_stays_bound(journal: BootJournal) -> None:
    taken = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    taken.bind(("::", 0))
    free = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    free.bind(("::", 0))
    port6, boot_port = free.getsockname()[1], taken.getsockname()[1]
    free.close()
    service = Pxe6Service(PxeSettings(port6=port6, boot_port=boot_port), http_port=8080, journal=journal)
    with pytest.raises(ServiceError, match=f"boot server .*{boot_port} is in use"):
        await service.start()
    taken.close()
    await service.start()  # possible only if the first port was given back
    assert service.ports == {"port6": port6, "boot_port6": boot_port}
    await service.drain()
    await service.stop()


async def test_beside_a_lease_server_on_this_host_the_boot_port_is_enough(journal: BootJournal) -> None:
    service = Pxe6Service(replace(SETTINGS, mode="boot_port_only"), http_port=8080, journal=journal)
    await service.start()
    assert list(service.ports) == ["boot_port6"]
    await service.stop()


async def test_the_same_boot_port_may_be_bound_for_ipv4(service: Pxe6Service) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", service.ports["boot_port6"]))
