# SPDX-License-Identifier: Apache-2.0
"""The socket of a stream, as the kernel has it afterwards."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from dpd.errors import ServiceError
from dpd.service.network.groups import Group
from dpd.service.network.sending_socket import (
    NO_PACING,
    SO_MAX_PACING_RATE,
    SendingSocket,
    open_sending_socket,
    pace,
    sender_address,
)

GROUP4, GROUP6, SSM = Group("239.192.79.4", 63020), Group("ff15::6470:4", 63020), Group("232.192.79.4", 63020)
NO_IPV6 = "this machine has no IPv6 on loopback"


@contextmanager
def opened(interface: str, group: Group, ttl: int = 3) -> Iterator[SendingSocket]:
    sending = open_sending_socket(interface, group, ttl)
    with closing(sending.sock):
        yield sending


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_an_ipv4_socket_sends_by_its_interface_with_its_ttl() -> None:
    with opened("lo", GROUP4) as sending:
        assert sending.address == "127.0.0.1" == sending.sock.getsockname()[0]
        assert sending.sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3


def test_without_an_interface_the_kernel_chooses_for_each_datagram() -> None:
    with opened("", GROUP4) as sending:
        assert sending.address == ""
        assert sending.sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.skipif(not has_ipv6(), reason=NO_IPV6)
def test_an_ipv6_socket_sends_by_its_interface_with_its_hop_limit() -> None:
    with opened("lo", GROUP6) as sending:
        index = socket.if_nametoindex("lo")
        assert sending.address == "::1" == sending.sock.getsockname()[0]
        assert sending.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 3
        assert sending.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF) == index


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="a namespace of its own needs root and ip")
def test_what_is_sent_over_ipv6_arrives_in_the_group() -> None:
    """In a thread's own empty namespace, since loopback has no route for IPv6 multicast."""
    received: list[tuple[bytes, str]] = []

    def run() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0  # CLONE_NEWNET
        for command in (
            "link add v0 type veth peer v1",
            "link set v1 up",
            "link set v0 up",
            "-6 addr add fd77::1/64 dev v0 nodad",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        received.append(send_and_receive("v0"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert received == [(b"row", "fd77::1")]


def send_and_receive(interface: str) -> tuple[bytes, str]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver, opened(interface, GROUP6) as sending:
        receiver.settimeout(5)
        receiver.bind(("::", 0))
        index = socket.if_nametoindex(interface).to_bytes(4, "little")
        membership = socket.inet_pton(socket.AF_INET6, GROUP6.address) + index
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        sending.sock.sendto(b"row", (GROUP6.address, receiver.getsockname()[1]))
        content, source = receiver.recvfrom(100)
        return content, source[0]


@pytest.mark.skipif(not has_ipv6(), reason=NO_IPV6)
def test_the_address_of_an_interface_is_of_the_family_of_its_groups() -> None:
    assert sender_address("lo", "239.192.0.0/24") == "127.0.0.1"
    assert sender_address("lo", "ff15::/112") == "::1"


def test_an_interface_without_ipv6_is_told() -> None:
    with pytest.raises(ServiceError, match=r"interface nope7: "):
        open_sending_socket("nope7", GROUP6, 1)
    with pytest.raises(ServiceError, match=r"interface nope7: no such interface"):
        open_sending_socket("nope7", GROUP4, 1)


def test_a_source_specific_group_needs_one_address() -> None:
    with opened("lo", SSM) as sending:
        assert sending.address == "127.0.0.1"


def test_a_source_specific_group_without_a_route_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Group("232.192.79.4", 63020)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(ServiceError, match=r"no route to group 232.192.79.4: .*; set multicast.interface"):
        open_sending_socket("", nowhere, 1)


def unreachable(*_: object) -> None:
    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


def test_the_kernel_is_asked_for_a_rate_and_told_to_forget_it() -> None:
    with opened("lo", GROUP4) as sending:
        pace(sending.sock, 80e6)
        assert sending.sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) == 10_000_000
        pace(sending.sock, 0)
        assert sending.sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8) == struct.pack("@Q", NO_PACING)
