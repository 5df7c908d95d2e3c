# SPDX-License-Identifier: Apache-2.0
"""The listening side on loopback and in a namespace: what is counted, what is passed over, what it sees when it looks
around."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from bench.netns import DEVICE, Lan, missing

from dpd.errors import SessionError
from dpd.protocol.igmp.message import Query
from dpd.protocol.multicast.probe import Probe, Stream
from dpd.service.diagnosis.querier import open_igmp
from dpd.target.network_test.interface import Interface, find_interface, other_interfaces
from dpd.target.network_test.listener import Listener

TEST = 0xABCDEF0123456789
PATIENCE_S = 15.0


class Sender:
    """The distribution point's socket, by hand."""

    def __init__(self, address: str, group: str) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 3)
        self.sock.settimeout(PATIENCE_S)
        self.group = (group, 63999)

    @property
    def feedback(self) -> tuple[str, int]:
        address: tuple[str, int] = self.sock.getsockname()
        return address

    def send(self, stream: Stream, number: int, test: int = TEST, size_bytes: int = 64) -> None:
        self.sock.sendto(Probe(stream, test, number, time.monotonic_ns() // 1000, 3).encode(size_bytes), self.group)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender("127.0.0.1", f"239.192.78.{os.getpid() % 200 + 1}")
    yield sender
    sender.sock.close()


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_the_group_is_counted_with_ttl_and_what_is_not_of_the_test_is_passed_over(sender: Sender) -> None:
    listener = Listener(TEST, sender.group, "", find_interface("127.0.0.1"))
    listener.start(sender.feedback)
    try:
        sender.sock.sendto(b"not one of ours", sender.group)
        sender.send(Stream.PACED, 1, test=TEST ^ 1)
        for number in range(5):
            sender.send(Stream.PACED, number)
        sender.send(Stream.SIZE, 3, size_bytes=1352)
        sender.send(Stream.BEAT, 0)
        until(lambda: listener.heard.last_beat_at > 0)
    finally:
        listener.close()
    tally = listener.heard.tally
    assert tally.received == 7
    assert tally.ttls == {3: 7}
    assert tally.sizes == {1380: 1}
    assert tally.passes_at(time.time())
    assert abs(tally.beat_times[0] - time.time()) < 5
    assert listener.heard.drops == {}


def test_echoes_are_timed(sender: Sender) -> None:
    listener = Listener(TEST, sender.group, "", find_interface("127.0.0.1"))
    listener.start(sender.feedback)
    try:
        for _ in range(3):
            echo, source = sender.sock.recvfrom(2048)
            time.sleep(0.02)
            sender.sock.sendto(echo, source)
        until(lambda: len(listener.heard.round_trips_s) == 3)
    finally:
        listener.close()
    assert all(0.02 <= each < 5 for each in listener.heard.round_trips_s)
    assert listener.heard.echoes_sent >= 3


def test_a_distribution_point_that_refuses_echoes_does_not_end_it(sender: Sender) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
    listener = Listener(TEST, sender.group, "", find_interface("127.0.0.1"))
    listener.start(nobody)
    try:
        until(lambda: listener.heard.echoes_sent >= 3)
        sender.send(Stream.BEAT, 0)
        until(lambda: listener.heard.last_beat_at > 0)
    finally:
        listener.close()
    assert listener.heard.round_trips_s == []


def test_what_the_own_socket_drops_is_counted_for_its_stream(sender: Sender) -> None:
    """Nobody reads until the buffer overflows; the next datagram that fits carries the count."""
    listener = Listener(TEST, sender.group, "", find_interface("127.0.0.1"))
    small = socket.socket(fileno=os.dup(next(iter(listener._selector.get_map().values())).fd))
    with small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for number in range(500):
            sender.send(Stream.BURST, number, size_bytes=1200)
        listener.start(sender.feedback)
        try:
            until(lambda: listener.heard.tally.received > 0)
            time.sleep(0.2)
            sender.send(Stream.BURST, 500)
            until(lambda: 500 in listener.heard.tally.streams[Stream.BURST].numbers)
        finally:
            listener.close()
    received = listener.heard.tally.streams[Stream.BURST].received
    assert 0 < received < 501
    assert received + listener.heard.drops[Stream.BURST] == 501


def test_a_group_that_cannot_be_joined_is_told() -> None:
    with pytest.raises(SessionError, match=r"cannot join group 239\.192\.78\.1 by eth9"):
        Listener(TEST, ("239.192.78.1", 63999), "", Interface("eth9", "203.0.113.9", 1500, False))


@pytest.fixture
def lan() -> Iterator[Lan]:
    absent = missing("iptables")
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with Lan("host", "server") as lan:
        lan.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0", "mcast_querier", "0")
        yield lan


def test_queries_are_heard_with_their_version(lan: Lan) -> None:
    host, server = lan["host"], lan["server"]
    with host.inside():
        listener = Listener(TEST, ("239.192.78.1", 63999), "", find_interface(host.address))
    with server.inside():
        querier = open_igmp(DEVICE)
        sender = Sender(server.address, "239.192.78.1")
    assert listener.can_hear_queries
    listener.start(sender.feedback)
    try:
        with querier, sender.sock:
            querier.sendto(Query(version=2).encode(), ("224.0.0.1", 0))
            until(lambda: listener.heard.queriers == {server.address: 2})
    finally:
        listener.close()


def test_looking_around_finds_the_other_interface_and_what_a_firewall_hides(lan: Lan) -> None:
    host, server = lan["host"], lan["server"]
    host.run("ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    host.run("ip", "address", "add", "10.99.0.1/24", "dev", "spare0")
    for name in ("spare0", "spare1"):
        host.run("ip", "link", "set", name, "up")
    with server.inside():
        sender = Sender(server.address, "239.192.78.1")
    for address, has_firewall in (("10.99.0.1", False), (host.address, True)):
        if has_firewall:
            host.run("iptables", "-A", "INPUT", "-p", "udp", "-d", "239.0.0.0/8", "-j", "DROP")
        with host.inside():
            interface = find_interface(address)
            listener = Listener(TEST, sender.group, "", interface)
            listener.start(sender.feedback)
            listener.look_around(other_interfaces(interface.name))

        def found(listener: Listener = listener, has_firewall: bool = has_firewall) -> bool:
            sender.send(Stream.BEAT, 0)
            return listener.heard.seen_before_firewall if has_firewall else listener.heard.elsewhere == DEVICE

        try:
            until(found)
            assert listener.heard.tally.received == 0
            assert listener.heard.seen_before_firewall is has_firewall
        finally:
            listener.close()
    sender.sock.close()
