# SPDX-License-Identifier: Apache-2.0
"""One test by itself on a cable: its datagrams are never cut, carry their TTL, and its end is told to its owner."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from bench.netns import DEVICE, Lan, missing

from dpd.protocol.multicast.probe import PACKET_BYTES, SIZE_COPIES, Stream, decode
from dpd.service.diagnosis.network_test import NetworkTest, Turn
from dpd.service.network.groups import Group
from dpd.service.network.udp import join_group
from dpd.settings import MulticastSettings

GROUP = Group("239.192.81.7", 63700)
PATIENCE_S = 15.0


@dataclass
class Owner:
    """Counts what it is told."""

    sent: int = 0
    ended: int = 0

    def note_sent(self) -> None:
        self.sent += 1

    def note_end(self) -> None:
        self.ended += 1


@pytest.fixture
def lan() -> Iterator[Lan]:
    absent = missing()
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with Lan("server", "client") as lan:
        lan.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")
        yield lan


def begin(owner: Owner, *, interface: str = "lo", seconds: float = 30.0, turn: Turn | None = None) -> NetworkTest:
    settings = MulticastSettings(interface=interface, ttl=5 if interface != "lo" else 0)
    return NetworkTest(0x77, GROUP, settings, "192.0.2.1", seconds, turn or Turn(0.0), owner)


def wait_for(test: NetworkTest, state: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while test.status()["state"] != state:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sizes_beyond_the_own_mtu_are_told_and_no_packet_is_a_fragment(lan: Lan) -> None:
    owner = Owner()
    with lan["client"].inside():
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        packets.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    with packets:
        packets.settimeout(0.5)
        with lan["server"].inside():
            test = begin(owner, interface=DEVICE)
        test.ask_run()
        wait_for(test, "sent")
        test.ask_end()
        test.wait_ended()
        seen = []
        try:
            while True:
                packet = packets.recv(65536)
                if packet[9] == 17 and socket.inet_ntoa(packet[16:20]) == GROUP.address:
                    seen.append(packet)
        except TimeoutError:
            pass
    status = test.status()
    passing = [size for size in PACKET_BYTES if size <= 1500]
    assert status["too_large"] == [size for size in PACKET_BYTES if size > 1500]
    assert status["sent"]["size"] == SIZE_COPIES * len(passing)
    assert len(seen) == sum(status["sent"].values()) == owner.sent
    assert {packet[6] & 0x7F for packet in seen} == {0x40}  # DF, and no fragment
    assert {packet[8] for packet in seen} == {5}
    sizes = {len(packet) for packet in seen if decode(packet[28:]).stream is Stream.SIZE}
    assert sizes == set(passing)


def test_its_owner_hears_of_its_end_by_time_or_by_request() -> None:
    owner = Owner()
    by_time, by_request = begin(owner, seconds=0.3), begin(owner)
    by_request.ask_end()
    for test in (by_time, by_request):
        test.wait_ended()
        assert test.has_ended
    assert owner.ended == 2


def test_a_turn_is_one_s_at_a_time_with_a_pause_after() -> None:
    turn = Turn(0.1)
    assert turn.take()
    assert not turn.take()
    turn.give_back()
    assert not turn.take()
    time.sleep(0.11)
    assert turn.take()


def test_a_run_that_is_ended_gives_its_turn_back() -> None:
    turn = Turn(0.0)
    test = begin(Owner(), turn=turn)
    test.ask_run()
    wait_for(test, "sending")
    test.ask_end()
    test.wait_ended()
    assert test.status()["state"] == "sending"
    assert turn.take()


def test_a_source_is_named_for_source_specific_groups_alone() -> None:
    owner = Owner()
    settings = MulticastSettings(interface="lo", ttl=0)
    for address, source in (("239.192.81.8", ""), ("232.192.81.8", "127.0.0.1")):
        test = NetworkTest(1, Group(address, 63700), settings, "", 0.2, Turn(0), owner)
        assert (test.describe()["source"], test.describe()["sender"]) == (source, "127.0.0.1")
        test.ask_end()
        test.wait_ended()


def test_joining_is_what_receivers_do() -> None:
    """A beat a quarter of a second, heard in the group."""
    test = begin(Owner())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((GROUP.address, GROUP.port))
        join_group(sock, GROUP.address, "127.0.0.1")
        sock.settimeout(PATIENCE_S)
        beats = [decode(sock.recv(2048)) for _ in range(3)]
    test.ask_end()
    test.wait_ended()
    assert {beat.stream for beat in beats} == {Stream.BEAT}
    assert 0.3 < (beats[-1].sent_us - beats[0].sent_us) / 1e6 < 5
