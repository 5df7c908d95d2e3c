# SPDX-License-Identifier: Apache-2.0
"""What the machine tells of its interfaces, on loopback and a cable in a namespace; sysfs as wireless cards leave it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan, missing

from dpd.errors import ServiceError
from dpd.target.network_test import interface
from dpd.target.network_test.interface import (
    Interface,
    KernelCounts,
    find_interface,
    is_wireless,
    kernel_counts,
    other_interfaces,
)

GROUP = "239.192.78.1"


@pytest.fixture
def lan() -> Iterator[Lan]:
    absent = missing()
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with Lan("host", "peer") as lan:
        yield lan


def test_loopback_is_found_by_its_address() -> None:
    found = find_interface("127.0.0.1")
    assert (found.name, found.network, found.is_wireless) == ("lo", "127.0.0.0/8", False)
    assert found.mtu >= 1500


@pytest.mark.parametrize("address", ["203.0.113.77", "", "0.0.0.0"])
def test_an_address_of_no_interface_is_told(address: str) -> None:
    with pytest.raises(ServiceError, match=address or "--interface"):
        find_interface(address)


def test_what_is_reached_without_a_router() -> None:
    interface = Interface("eth0", "10.0.0.7", 1500, False, "10.0.0.0/24")
    assert interface.reaches_directly("10.0.0.200")
    assert not interface.reaches_directly("10.0.1.1")
    assert interface.reaches_directly("fd00::1")
    assert Interface("eth0", "fd00::7", 1500, False).reaches_directly("10.0.1.1")


def test_the_others_are_those_that_are_up_and_have_an_address(lan: Lan) -> None:
    host = lan["host"]
    host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "bare0")
    host.run("ip", "link", "add", "down0", "type", "veth", "peer", "name", "down1")
    for name, address in (("up0", "10.98.0.1/24"), ("down0", "10.99.0.1/24")):
        host.run("ip", "address", "add", address, "dev", name)
    for name in ("up0", "bare0"):
        host.run("ip", "link", "set", name, "up")
    with host.inside():
        assert [(each.name, each.address) for each in other_interfaces(DEVICE)] == [("up0", "10.98.0.1")]
        assert {each.name for each in other_interfaces("up0")} == {DEVICE}


@pytest.mark.parametrize("mark", ["wireless", "phy80211"])
def test_wireless_shows_in_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    monkeypatch.setattr(interface, "SYSFS", tmp_path)
    (tmp_path / "wlan0" / mark).mkdir(parents=True)
    (tmp_path / "eth0").mkdir()
    assert is_wireless("wlan0")
    assert not is_wireless("eth0")


def test_the_kernel_counts_multicast_that_a_firewall_then_drops(lan: Lan) -> None:
    host = lan["host"]
    with host.inside():
        member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        before = kernel_counts()
    with lan["peer"].inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with member, sender:
        membership = socket.inet_aton(GROUP) + socket.inet_aton(host.address)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        host.run("iptables", "-A", "INPUT", "-p", "udp", "-j", "DROP")
        lan.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")
        for _ in range(10):
            sender.sendto(b"x", (GROUP, 9))
        with host.inside():
            assert kernel_counts().since(before).multicast_packets >= 10


def test_counts_that_cannot_be_read_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "NETSTAT", tmp_path / "nope")
    assert kernel_counts() == KernelCounts()


def test_counts_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netstat"
    path.write_text("TcpExt: A IPReversePathFilter B\nTcpExt: 1 7 2\nIpExt: InNoRoutes InMcastPkts\nIpExt: 3 44\n")
    monkeypatch.setattr(interface, "NETSTAT", path)
    assert kernel_counts() == KernelCounts(multicast_packets=44, reverse_path_drops=7)
    assert kernel_counts().since(KernelCounts(40, 7)) == KernelCounts(4, 0)
