# SPDX-License-Identifier: Apache-2.0
"""The lab itself (bench/netns.py): what its switch loses, and how fast its lines are. Benches and tests rest on both."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest
from bench.netns import DEVICE, Host, Lan, missing

from dpd.service.network.udp import SO_RCVBUFFORCE, UDP_SEGMENT

GROUP, PORT = "239.192.77.1", 7777
TRAIN, SYMBOL_BYTES = 32, 100
COUNT = 6400
LOSS = 0.1


@contextmanager
def listening(host: Host) -> Iterator[socket.socket]:
    """A member of the group with room for everything that is sent here."""
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        sock.bind((GROUP, PORT))
        membership = socket.inet_aton(GROUP) + socket.inet_aton(host.address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sock.settimeout(0.2)
        yield sock


def send_trains(host: Host, size: int, count: int) -> float:
    """`count` numbered datagrams of `size` bytes in trains; returns the seconds until the last was handed over."""
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.address))
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        started = time.monotonic()
        for first in range(0, count, TRAIN):
            numbers = range(first, first + TRAIN)
            sock.sendto(b"".join(struct.pack("!I", n) + bytes(size - 4) for n in numbers), (GROUP, PORT))
        return time.monotonic() - started


def numbers_heard(sock: socket.socket) -> list[int]:
    heard = []
    try:
        while True:
            heard.append(struct.unpack_from("!I", sock.recv(2048))[0])
    except TimeoutError:
        return heard


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    if missing("nft"):
        pytest.skip("missing: " + ", ".join(missing("nft")))
    lan = make_lan("server", "r0", "r1", checksum_offload=True)
    lan.split_trains("server")
    return lan


def test_the_switch_loses_each_datagram_for_itself_and_each_port_for_itself(lan: Lan) -> None:
    for name in ("r0", "r1"):
        lan.lose(name, LOSS)
        lan[name].run("ethtool", "-K", DEVICE, "gro", "on")
    with listening(lan["r0"]) as r0, listening(lan["r1"]) as r1:
        send_trains(lan["server"], SYMBOL_BYTES, COUNT)
        heard = {"r0": set(numbers_heard(r0)), "r1": set(numbers_heard(r1))}
    missed = {name: [n not in numbers for n in range(COUNT)] for name, numbers in heard.items()}
    for name, lost in missed.items():
        counted = lan.lost(name)
        runs = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
        assert (counted.passed, counted.dropped) == (len(heard[name]), sum(lost))
        assert sum(lost) / COUNT == pytest.approx(LOSS, rel=0.25)  # 6 standard deviations
        assert sum(runs) / len(runs) < 1.3  # 1.11 where each is lost for itself, 32 where whole trains are
    both = sum(a and b for a, b in zip(*missed.values(), strict=True))
    assert both / COUNT < 2 * LOSS**2


def test_loss_is_taken_back(lan: Lan) -> None:
    lan.lose("r0", 1.0)
    lan.lose_nothing("r0")
    with listening(lan["r0"]) as sock:
        send_trains(lan["server"], SYMBOL_BYTES, TRAIN)
        assert len(numbers_heard(sock)) == TRAIN


def test_a_limited_line_counts_what_a_wire_counts(lan: Lan) -> None:
    """1500 frames of 1464 + 42 bytes and 24 more of each on 100 Mbit/s: 184 ms, of which the queue hides none here."""
    size, count = 1464, 1504
    lan.limit_sending("server", 100, queue_bytes=4_000_000)
    with listening(lan["r0"]) as sock:
        sock.settimeout(1)
        started = time.monotonic()
        send_trains(lan["server"], size, count)
        for _ in range(count):
            sock.recv(2048)
        seconds = time.monotonic() - started
    assert seconds >= 0.95 * count * (size + 42 + 24) * 8 / 100e6
