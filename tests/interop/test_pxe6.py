# SPDX-License-Identifier: Apache-2.0
"""`dpd serve` on the ports of DHCPv6, by multicast, and through ISC's relay from another network."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bench.netns import Host, Lan
from tests.data.dhcp6_vectors import VECTORS
from tests.interop.daemon import Daemon
from tests.interop.lease_server6 import wait_until_addresses_hold
from tests.protocol.pxe.firmware6 import BootOffer, read_http_offer, read_pxe_offer
from tests.protocol.pxe.test_identity6 import changed

from dpd.protocol.dhcp6.message import MessageType, Packet, decode, encode
from dpd.service.pxe.answers6 import own_duid

pytestmark = pytest.mark.interop

SERVERS = ("ff02::1:2", 547)
LIMIT_S = 20.0
ASK_AGAIN_S = 0.5
PXE = decode(VECTORS["edk2-pxe-solicit"])
HTTP = decode(VECTORS["edk2-http-solicit"])
SETTINGS = """[pxe]
ipv6 = true
[multicast]
enabled = false
"""
URL = "tftp://[fd77::10]/ipxe.efi"


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    lan = make_lan("dpd", "client", ipv6=True)
    for name, address in (("dpd", "fd77::10/64"), ("client", "fd77::162/64")):
        lan[name].run("ip", "-6", "address", "add", address, "dev", "eth0", "nodad")
        wait_until_addresses_hold(lan[name])
    return lan


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, SETTINGS, lan["dpd"]) as daemon:
        yield daemon


def events_of(dpd: Daemon, mac: str) -> str:
    """The machine's story as JSON."""
    return dpd.tell("pxe", "why", mac, "--json")


def open_client(host: Host, device: str, port: int, address: str = "::") -> socket.socket:
    with host.inside():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        interface = socket.if_nametoindex(device)
        sock.bind((address, port))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
    sock.settimeout(ASK_AGAIN_S)
    return sock


def mac_of(host: Host, device: str) -> str:
    return host.run("cat", f"/sys/class/net/{device}/address").strip()


def ask(sock: socket.socket, question: Packet, server: tuple[str, int]) -> tuple[bytes, tuple[str, int]]:
    """The answer and its sender's address and port; asked again until there is one, since relays take their time to start."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        sock.sendto(encode(question), server)
        with suppress(TimeoutError):
            data, source = sock.recvfrom(2048)
            return data, (source[0], source[1])
    raise AssertionError(f"no answer from {server}")


def test_firmware_asks_by_multicast_and_then_at_the_boot_port(lan: Lan, dpd: Daemon) -> None:
    mac = mac_of(lan["client"], "eth0")
    with open_client(lan["client"], "eth0", 546) as sock:
        data, (source, port) = ask(sock, PXE, SERVERS)
        assert read_pxe_offer(data, PXE) == BootOffer(MessageType.ADVERTISE, own_duid(), URL, is_proxy=True)
        assert source.startswith("fe80:")
        assert port == 547
        data, _ = ask(sock, HTTP, SERVERS)
        http = "http://[fd77::10]:8080/boot/ipxe.efi"
        assert read_http_offer(data, HTTP) == BootOffer(MessageType.ADVERTISE, own_duid(), http, is_proxy=True)

    boot_request = changed(decode(VECTORS["edk2-boot-request"]), SERVER_ID=own_duid(), CLIENT_ID=PXE.message.option(1))
    with open_client(lan["client"], "eth0", 4011, "fd77::162") as sock:
        data, sender = ask(sock, boot_request, ("fd77::10", 4011))
        assert sender == ("fd77::10", 4011)
        assert read_pxe_offer(data, boot_request) == BootOffer(MessageType.REPLY, own_duid(), URL, is_proxy=True)
        data, _ = ask(sock, boot_request, ("ff02::1:2", 4011))  # as firmware does without a URL in the ADVERTISE
        assert read_pxe_offer(data, boot_request) == BootOffer(MessageType.REPLY, own_duid(), URL, is_proxy=True)
    story = events_of(dpd, mac)  # the MAC is that of the link-local address
    for event in ("discover", "offer", "boot_request", "boot_reply"):
        assert f'"event": "{event}"' in story
    assert dpd.metric("dpd_pxe6_boot_requests_total") >= 2
    assert dpd.metric("dpd_pxe6_failures_total") == 0


def test_an_interface_that_comes_later_is_heard_after_a_reload(lan: Lan, dpd: Daemon) -> None:
    here, there = lan["dpd"], lan["client"]
    here.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", there.namespace)
    for host in (here, there):
        host.run("ip", "link", "set", "eth1", "up")
    here.run("ip", "-6", "address", "add", "fd79::10/64", "dev", "eth1", "nodad")
    for host in (here, there):
        wait_until_addresses_hold(host, "eth1")
    os.kill(dpd.pid, signal.SIGHUP)
    with open_client(there, "eth1", 546) as sock:
        data, _ = ask(sock, PXE, SERVERS)
    offer = read_pxe_offer(data, PXE)
    assert offer is not None
    assert offer.url == "tftp://[fd79::10]/ipxe.efi"


def test_a_client_behind_a_relay(lan: Lan, dpd: Daemon, need: Callable[..., None]) -> None:
    """Its network is fd78::/64, behind ISC's dhcrelay on a host with a foot in both."""
    need("dhcrelay")
    relay, far = lan["client"], lan.switch
    relay.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far0", "netns", far.namespace)
    relay.run("ip", "link", "set", "eth1", "up")
    far.run("ip", "link", "set", "far0", "up")
    relay.run("ip", "-6", "address", "add", "fd78::1/64", "dev", "eth1", "nodad")
    lan["dpd"].run("ip", "-6", "route", "add", "fd78::/64", "via", "fd77::162")
    for host, device in ((relay, "eth1"), (far, "far0")):
        wait_until_addresses_hold(host, device)
    relay.start("dhcrelay", "-6", "-d", "--no-pid", "-I", "-l", "eth1", "-u", "fd77::10%eth0")
    with open_client(far, "far0", 546) as sock:
        data, _ = ask(sock, PXE, SERVERS)
    assert read_pxe_offer(data, PXE) == BootOffer(MessageType.ADVERTISE, own_duid(), URL, is_proxy=True)
    assert "fd78::1" in events_of(dpd, mac_of(far, "far0"))


def test_other_servers_boot_port_is_left_to_them(lan: Lan, dpd: Daemon) -> None:
    boot_request = changed(
        decode(VECTORS["edk2-boot-request"]), SERVER_ID=b"\0\4other", CLIENT_ID=PXE.message.option(1)
    )
    with open_client(lan["client"], "eth0", 546) as sock:
        ask(sock, PXE, SERVERS)
    with open_client(lan["client"], "eth0", 4011, "fd77::162") as sock:
        sock.sendto(encode(boot_request), ("ff02::1:2", 4011))
        with pytest.raises(TimeoutError):
            sock.recv(2048)
    assert dpd.metric('dpd_pxe6_ignored_total{reason="other_server"}') == 1
