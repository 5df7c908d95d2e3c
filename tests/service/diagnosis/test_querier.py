# SPDX-License-Identifier: Apache-2.0
"""The querier on a real bridge and cable: what leaves its raw socket, and the election against another one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from bench.netns import DEVICE, Lan, missing
from tests.service.waiting import until

from dpd.errors import ServiceError
from dpd.protocol.igmp.message import EVERY_GROUP, Packet, Query, decode_packet
from dpd.protocol.igmp.querier import Intervals
from dpd.service.diagnosis.querier import QuerierService, open_igmp, routed_interface
from dpd.settings import MulticastSettings, Settings

SHORT = Intervals(query_s=2.0, response_s=0.5, last_member_s=0.2)
SETTINGS = MulticastSettings(interface=DEVICE, querier=True)


@pytest.fixture
def lan() -> Iterator[Lan]:
    """The bridge neither snoops nor asks: it is a cable for all."""
    absent = missing()
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with Lan("low", "high", "host") as lan:
        lan.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_querier", "0", "mcast_snooping", "0")
        yield lan


class Hearer:
    """A packet socket, which shows packets as they came in."""

    def __init__(self, lan: Lan, name: str) -> None:
        with lan[name].inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self.sock.setblocking(False)

    def queries(self) -> list[Packet]:
        found: list[Packet] = []
        while True:
            try:
                packet = self.sock.recv(2048)
            except BlockingIOError:
                return found
            if packet[9] == 2 and isinstance((heard := decode_packet(packet)).message, Query):
                found.append(heard)


async def started(lan: Lan, name: str) -> QuerierService:
    service = QuerierService(SETTINGS, SHORT)
    with lan[name].inside():
        await service.start()
    return service


async def test_its_queries_are_as_the_rfc_wants_them(lan: Lan) -> None:
    with ExitStack() as stack:
        hearer = Hearer(lan, "host")
        stack.callback(hearer.sock.close)
        service = await started(lan, "low")
        try:
            heard: list[Packet] = []
            await until(lambda: len(heard.extend(hearer.queries()) or heard) >= 2)  # type: ignore[func-returns-value]
        finally:
            await service.stop()
    for packet in heard:
        assert (packet.source, packet.destination) == (lan["low"].address, "224.0.0.1")
        assert (packet.ttl, packet.has_router_alert) == (1, True)
        assert packet.message == Query(EVERY_GROUP, 0.5, 3, robustness=2, interval_s=2)
    assert service.stats.is_querier == 1
    assert service.stats.queries >= 2
    assert service.stats.send_failures == 0


async def test_of_two_the_lower_asks_and_the_other_takes_over_when_it_ends(
    lan: Lan, caplog: pytest.LogCaptureFixture
) -> None:
    high = await started(lan, "high")
    assert high.stats.is_querier == 1
    low = await started(lan, "low")
    try:
        await until(lambda: high.stats.is_querier == 0)
        assert low.stats.is_querier == 1
        await low.stop()
        await until(lambda: high.stats.is_querier == 1)
    finally:
        await low.stop()
        await high.stop()
    assert high.stats.elections == {"yielded": 1, "took_over": 1}
    assert low.stats.elections == {}
    assert "IGMP querier fell silent; this machine asks in its place" in [record.message for record in caplog.records]


async def test_a_group_that_a_host_leaves_is_asked_after(lan: Lan) -> None:
    service = await started(lan, "low")
    hearer = Hearer(lan, "high")
    try:
        with lan["host"].inside():
            member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        membership = socket.inet_aton("239.192.0.7") + socket.inet_aton(lan["host"].address)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        member.close()
        heard: list[Query] = []

        def asked_twice() -> bool:
            heard.extend(
                p.message for p in hearer.queries() if isinstance(p.message, Query) and p.message.group != EVERY_GROUP
            )
            return len(heard) >= 2

        await until(asked_twice)
    finally:
        hearer.sock.close()
        await service.stop()
    assert {query.group for query in heard} == {"239.192.0.7"}


async def test_a_cable_that_is_out_is_counted_and_endured(lan: Lan) -> None:
    service = await started(lan, "low")
    try:
        lan["low"].run("ip", "link", "set", DEVICE, "down")
        await until(lambda: service.stats.send_failures > 0)
        lan["low"].run("ip", "link", "set", DEVICE, "up")
        before = service.stats.queries
        await until(lambda: service.stats.queries > before)
    finally:
        await service.stop()


async def test_settings_drain_and_stop_are_harmless() -> None:
    service = QuerierService(SETTINGS)
    service.apply(Settings())
    await service.drain()
    await service.stop()


def test_its_interface_is_the_one_that_leads_to_the_groups(lan: Lan) -> None:
    with lan["low"].inside():
        assert routed_interface("239.192.0.0/24") == DEVICE
        assert routed_interface("ff15::6470:0/112") == DEVICE
    with lan.switch.inside(), pytest.raises(ServiceError, match=r"no route to 239\.192\.0\.0"):
        routed_interface("239.192.0.0/24")


def test_an_unknown_interface_is_told(lan: Lan) -> None:
    with lan["low"].inside(), pytest.raises(ServiceError, match="IGMP on nope0: No such device"):
        open_igmp("nope0")
