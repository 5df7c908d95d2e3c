# SPDX-License-Identifier: Apache-2.0
"""Ports that are bound and ports that are overheard; the latter need root, and beside a whole dnsmasq they are tried in
tests/interop/test_pxe_modes.py."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from scapy.layers.inet import IP, UDP
from tests.service.waiting import until

from dpd.errors import ServiceError
from dpd.protocol.dhcp.message import MAX_BYTES
from dpd.protocol.machine import Datagram
from dpd.service.network.udp import BATCH
from dpd.service.pxe.ports import BoundPort, SniffedPort, build_packet, is_own

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 2, b"\xff" * 301])
def test_a_packet_is_what_scapy_makes(payload: bytes) -> None:
    packet = IP(build_packet(("10.0.0.1", 67), ("10.0.0.2", 68), payload))
    said = packet[UDP]
    checksum = said.chksum
    assert (packet.src, packet.dst, said.sport, said.dport, packet.ttl) == ("10.0.0.1", "10.0.0.2", 67, 68, 64)
    assert (bytes(said.payload), said.len) == (payload, 8 + len(payload))
    theirs = IP(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=67, dport=68) / payload))
    assert checksum == theirs[UDP].chksum


def test_own_addresses_are_known() -> None:
    assert is_own("127.0.0.1")
    assert is_own("127.255.255.255")
    assert not is_own("192.0.2.1")


async def test_a_bound_port_answers_from_its_number() -> None:
    heard: list[Datagram] = []
    port = BoundPort("127.0.0.1", 0, heard.append, "test")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        client.sendto(b"ask", ("127.0.0.1", port.number))
        await until(lambda: bool(heard))
        assert (heard[0].payload, heard[0].answer_from) == (b"ask", "127.0.0.1")
        assert port.send(b"answer", heard[0].source, interface=0, local="127.0.0.1")
        data, source = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(client, 100), 5)
    assert (data, source) == (b"answer", ("127.0.0.1", port.number))
    port.close()
    port.close()


async def test_what_waits_is_heard_in_order_and_longer_datagrams_are_seen_to_be_too_long() -> None:
    heard: list[Datagram] = []
    port = BoundPort("0.0.0.0", 0, heard.append, "test")
    sent = [bytes([number]) * number for number in range(BATCH + 3)] + [bytes(MAX_BYTES + 100)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for payload in sent:
            client.sendto(payload, ("127.0.0.9", port.number))
    await until(lambda: len(heard) == len(sent))
    port.close()
    assert [each.payload for each in heard[:-1]] == sent[:-1]
    assert len(heard[-1].payload) == MAX_BYTES + 1
    assert {(each.local, each.answer_from, each.interface) for each in heard} == {
        ("127.0.0.9", "127.0.0.9", socket.if_nametoindex("lo"))
    }


@needs_root
async def test_a_sniffed_port_hears_and_answers_beside_its_owner() -> None:
    heard: list[Datagram] = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owner,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        owner.bind(("127.0.0.1", 0))
        number = owner.getsockname()[1]
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        port = SniffedPort(number, heard.append, "test", lambda reason: None)
        client.sendto(b"ask", ("127.0.0.1", number))
        await until(lambda: bool(heard))
        said = heard[0]
        assert (said.payload, said.source, said.answer_from) == (b"ask", client.getsockname(), "127.0.0.1")
        assert socket.if_indextoname(said.interface) == "lo"
        assert port.send(b"answer", said.source, interface=0, local=said.answer_from)
        data, source = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(client, 100), 5)
        assert (data, source) == (b"answer", ("127.0.0.1", number))
        owner.settimeout(5)
        assert owner.recv(100) == b"ask"
        port.close()
        port.close()


async def test_without_the_privilege_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("socket.socket", refuse)
    with pytest.raises(ServiceError, match="CAP_NET_RAW"):
        SniffedPort(67, print, 'pxe.mode = "sniff"', print)
