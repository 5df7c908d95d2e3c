# SPDX-License-Identifier: Apache-2.0
"""Each mode of the proxyDHCP beside a dnsmasq that hands out addresses: on another host, on the same host as a server that
knows of PXE, and on the same host as one that knows nothing. The clients are the models of real firmware, over real sockets.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bench.netns import DEVICE, Host, Lan
from tests.interop.boot_wire import BootWire
from tests.interop.daemon import Daemon
from tests.protocol.pxe.models import Firmware, HttpFirmware, Ipxe

from dpd.protocol.dhcp.options import Option
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.rules import ClientClass

pytestmark = pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="missing: dnsmasq")

FIRMWARE = PxeClient(mac="52:54:00:00:00:01", guid="70786c61-6200-4000-8000-525400770004")
IPXE = PxeClient(mac="52:54:00:00:00:02", client_class=ClientClass.IPXE)
HTTP = PxeClient(mac="52:54:00:00:00:03", client_arch=16, client_class=ClientClass.HTTP)


def serve_leases(host: Host, *more: str) -> None:
    """dnsmasq as a DHCP server and nothing else; returns once it has port 67."""
    host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
        *(f"--interface={DEVICE}", "--no-ping", "--dhcp-authoritative", "--pid-file="),
        *("--dhcp-range=10.77.1.1,10.77.1.200,255.255.0.0,1h", *more),
    )
    host.run("sh", "-c", "until ss -Huln 'sport = :67' | grep -q :67; do :; done", timeout_s=10)


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    return make_lan("dpd", "lease", "client", without_address=("client",))


def daemon(lan: Lan, directory: Path, mode: str) -> Daemon:
    return Daemon(directory, f'[pxe]\nmode = "{mode}"\n[multicast]\nenabled = false\n', lan["dpd"])


@pytest.fixture
def wire(lan: Lan, request: pytest.FixtureRequest) -> Iterator[BootWire]:
    """The client's network; the test says how many offers there are."""
    with closing(BootWire(lan["client"], expected_offers=request.param)) as wire:
        yield wire


@pytest.mark.parametrize("wire", [2], indirect=True)
def test_normal_mode_beside_a_lease_server_elsewhere(lan: Lan, wire: BootWire, tmp_path: Path) -> None:
    serve_leases(lan["lease"])
    with daemon(lan, tmp_path, "normal") as dpd:
        boot = Firmware(FIRMWARE).boot(wire)
        assert boot is not None
        assert (boot.server, boot.file) == (lan["dpd"].address, "ipxe.efi")
        assert set(wire.heard) == {(lan["dpd"].address, 67), (lan["lease"].address, 67)}
        assert dpd.events("boot client answered", mac=FIRMWARE.mac, loader="ipxe.efi")


@pytest.mark.parametrize("wire", [1], indirect=True)
def test_4011_alone_beside_a_dhcp_server_on_this_host_that_says_pxeclient(
    lan: Lan, wire: BootWire, tmp_path: Path
) -> None:
    """One offer, of dnsmasq; EDK2 takes it for BINL and visits port 4011 of the same address, and iPXE likewise."""
    serve_leases(lan["dpd"], "--dhcp-option-force=60,PXEClient")
    with daemon(lan, tmp_path, "boot_port_only"):
        boot = Firmware(FIRMWARE).boot(wire)
        assert boot is not None
        assert (boot.server, boot.file) == (lan["dpd"].address, "ipxe.efi")
        assert wire.heard == [(lan["dpd"].address, 67)] * 2 + [(lan["dpd"].address, 4011)]
        by_ipxe = Ipxe(IPXE).boot(wire)
        assert by_ipxe is not None
        assert (by_ipxe.server, by_ipxe.file) == (lan["dpd"].address, "boot.ipxe")
        assert wire.heard[-1] == (lan["dpd"].address, 4011)


@pytest.mark.parametrize("wire", [2], indirect=True)
def test_sniffing_beside_a_dhcp_server_on_this_host_that_knows_nothing(
    lan: Lan, wire: BootWire, tmp_path: Path
) -> None:
    """Two offers from one address and port 67, of dnsmasq which has the port, and of dpd which overhears it."""
    serve_leases(lan["dpd"])
    with daemon(lan, tmp_path, "sniff") as dpd:
        boot = Firmware(FIRMWARE).boot(wire)
        assert boot is not None
        assert (boot.server, boot.file) == (lan["dpd"].address, "ipxe.efi")
        assert set(wire.heard) == {(lan["dpd"].address, 67)}
        assert [offer.option(Option.VENDOR_CLASS) for offer in wire.offers].count(b"PXEClient") == 1
        story = dpd.tell("pxe", "show", FIRMWARE.mac)
        assert "lease_request" in story  # overheard: the address that its files will go to
        for client, file in ((Ipxe(IPXE), "boot.ipxe"), (HttpFirmware(HTTP), f"http://{lan['dpd'].address}:8080/")):
            found = client.boot(wire)
            assert found is not None
            assert found.file.startswith(file)


@pytest.mark.parametrize("wire", [1], indirect=True)
def test_what_a_router_passes_on_to_another_server_is_not_answered(lan: Lan, wire: BootWire, tmp_path: Path) -> None:
    """A relay's unicast to the lease server that goes through dpd's host, where the packet socket sees it."""
    lan["dpd"].run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    lan["client"].run("ip", "address", "add", "10.77.2.1/16", "dev", DEVICE)
    lan["client"].run("ip", "route", "add", "192.0.2.1", "via", lan["dpd"].address)
    with daemon(lan, tmp_path, "sniff") as dpd:
        relayed = PxeClient(mac="52:54:00:00:00:04", relay="10.77.2.1")
        with lan["client"].inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind(("10.77.2.1", 67))
            sock.settimeout(10)
            sock.sendto(relayed.discover(1), ("192.0.2.1", 67))
            sock.sendto(relayed.discover(2), (lan["dpd"].address, 67))
            answer = sock.recv(2048)
        assert relayed.read(answer, 2) is not None
        assert dpd.metric("dpd_pxe_discovers_total") == 1
