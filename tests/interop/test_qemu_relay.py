# SPDX-License-Identifier: Apache-2.0
"""Machines on another network than every server: a relay (ISC dhcrelay) is all that they see.

`relay` routes between the LAN of the servers and a second switch. Lease server and dpd both get what it passes on, with option
82 on it, which must come back as it was sent; answers go to the relay, files through the router.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_kea, start_router
from tests.interop.linux import IPXE_EFI
from tests.interop.test_qemu_boot import BIOS_LIMIT_S, UEFI_LIMIT_S

pytestmark = pytest.mark.qemu

MAC = "52:54:00:d9:d0:02"
GATEWAY = "10.78.0.1"  # the relay's address on the machines' network, and so giaddr


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """Servers and relay on one switch, `far0` on another one, where the relay is all there is."""
    need(QEMU, "kea-dhcp4", "dhcrelay", "dnsmasq", IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", "relay", ipv6=True)
    relay, switch = lan["relay"], lan.switch
    switch.run("ip", "link", "add", "far0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    cable = ("type", "veth", "peer", "name", "eth1", "netns", relay.namespace)
    switch.run("ip", "link", "add", "far-port", *cable)
    switch.run("ip", "link", "set", "far-port", "master", "far0", "up")
    switch.run("ip", "link", "set", "far0", "up")
    relay.run("ethtool", "-K", "eth1", "tx", "off")
    relay.run("ip", "address", "add", f"{GATEWAY}/24", "brd", "+", "dev", "eth1")
    relay.run("ip", "link", "set", "eth1", "up")
    relay.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    for server in ("lease", "dpd"):
        lan[server].run("ip", "route", "add", "10.78.0.0/24", "via", relay.address)
    start_kea(lan["lease"], tmp_path)
    start_router(relay, "eth1", "fd78::")
    relay.start(
        *("dhcrelay", "-4", "-d", "-a", "-m", "discard", "-iu", "eth0", "-id", "eth1"),
        *(lan["lease"].address, lan["dpd"].address),
    )
    return lan


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path, boot_directory: Path) -> Iterator[Daemon]:
    """`dpd serve` with its default rules and ports."""
    with Daemon(tmp_path, f'[boot]\ndirectory = "{boot_directory}"\n', lan["dpd"]) as daemon:
        yield daemon


def far(lan: Lan, guest: Guest) -> Guest:
    """The guest, on the switch behind the relay."""
    lan.switch.run("ip", "link", "set", guest.tap, "master", "far0")
    return guest


def assert_booted_from_afar(guest: Guest, dpd: Daemon, limit_s: float) -> None:
    guest.wait_for(linux.MARK, limit_s)
    guest.wait_for(f"dpd.mac={MAC}", 5)
    answers = dpd.events("boot client answered", mac=MAC, client_class="iPXE", loader="boot.ipxe")
    assert [answer["destination"] for answer in answers] == [f"{GATEWAY}:67"]
    transfers = dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")
    assert [transfer["peer"].startswith("10.78.0.") for transfer in transfers] == [True]


def test_bios_boots_linux_from_behind_a_relay(lan: Lan, dpd: Daemon) -> None:
    with far(lan, Guest.bios(lan, MAC)) as guest:
        assert_booted_from_afar(guest, dpd, BIOS_LIMIT_S)


def test_uefi_boots_linux_from_behind_a_relay(lan: Lan, dpd: Daemon, tmp_path: Path) -> None:
    with far(lan, Guest.uefi(lan, MAC, tmp_path)) as guest:
        assert_booted_from_afar(guest, dpd, UEFI_LIMIT_S)
    assert dpd.events("tftp transfer", file="ipxe.efi", verdict="completed", windowsize=4)
