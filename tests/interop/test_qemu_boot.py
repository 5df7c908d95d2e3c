# SPDX-License-Identifier: Apache-2.0
"""Whole boots of real firmware from `dpd serve`, on the ports and with the rules that it has out of the box.

Three hosts on a switch: `lease` runs dnsmasq or Kea, which hands out addresses and knows nothing of booting, `dpd` serves,
and the guest has neither disk nor kernel. Proof is Linux's first userspace line on the guest's serial line, and dpd's log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import E1000_ROM, IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import LEASE_SERVERS, start_router
from tests.interop.linux import IPXE_EFI

pytestmark = pytest.mark.qemu
both_lease_servers = pytest.mark.parametrize("lan", LEASE_SERVERS, indirect=True)

# Emulated boots take 8 s (BIOS) to 25 s (UEFI) on two quiet cores.
BIOS_LIMIT_S = 90.0
UEFI_LIMIT_S = 180.0
MAC = "52:54:00:d9:d0:01"


@pytest.fixture
def lan(request: pytest.FixtureRequest, make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """A LAN with a lease server, dnsmasq where the test names no other, and an IPv6 router."""
    program, start = LEASE_SERVERS[getattr(request, "param", "dnsmasq")]
    need(QEMU, program, "dnsmasq", IPXE_ROM, E1000_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    start(lan["lease"], tmp_path)
    start_router(lan["lease"], "eth0", "fd77::")
    return lan


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path, boot_directory: Path) -> Iterator[Daemon]:
    """`dpd serve` with its default rules and ports, and a boot directory with what Debian packages."""
    with Daemon(tmp_path, f'[boot]\ndirectory = "{boot_directory}"\n', lan["dpd"]) as daemon:
        yield daemon


def assert_booted(guest: Guest, limit_s: float) -> None:
    guest.wait_for(linux.MARK, limit_s)
    guest.wait_for(f"dpd.mac={MAC}", 5)


@both_lease_servers
@pytest.mark.parametrize("card", ["virtio-net-pci", "e1000"])
def test_bios_boots_linux_through_ipxe(lan: Lan, dpd: Daemon, card: str) -> None:
    with Guest.bios(lan, MAC, card) as guest:
        assert_booted(guest, BIOS_LIMIT_S)
    assert dpd.events("boot client answered", mac=MAC, client_class="iPXE", loader="boot.ipxe")
    assert dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")


@both_lease_servers
def test_uefi_boots_linux_through_pxe_and_ipxe(lan: Lan, dpd: Daemon, tmp_path: Path) -> None:
    with Guest.uefi(lan, MAC, tmp_path) as guest:
        assert_booted(guest, UEFI_LIMIT_S)
    assert dpd.events("boot client answered", mac=MAC, client_class="PXEClient", loader="ipxe.efi")
    # EDK2 asks for the size first, breaks off with ERROR 8, and comes again; both times in windows (RFC 7440)
    assert dpd.events("tftp transfer", file="ipxe.efi", verdict="probe", windowsize=4)
    (completed,) = dpd.events("tftp transfer", file="ipxe.efi", verdict="completed", windowsize=4)
    # Nothing is lost, but a guest that gets no processor for 20 ms is asked by one block whether something was.
    assert completed["retransmits"] < completed["bytes"] / completed["blksize"] / 20
    assert dpd.events("boot client answered", mac=MAC, client_class="iPXE", loader="boot.ipxe")
    assert dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")


def test_uefi_boots_linux_by_http_alone(lan: Lan, dpd: Daemon, tmp_path: Path) -> None:
    """The URL comes in a proxy offer, so the lease server need not know of HTTP boot."""
    with Guest.uefi(lan, MAC, tmp_path, http=True) as guest:
        assert_booted(guest, UEFI_LIMIT_S)
    loader = f"http://{lan['dpd'].address}:8080/boot/ipxe.efi"
    assert dpd.events("boot client answered", mac=MAC, client_class="HTTPClient", loader=loader)
    assert not dpd.events("tftp transfer", file="ipxe.efi")
