# SPDX-License-Identifier: Apache-2.0
"""Boots of real firmware over IPv6 alone, beside dnsmasq and beside Kea.

First with dpd as the one who knows of booting: lease servers hand out addresses and nothing else. OVMF then gets as far as
iPXE's own screen, since iPXE takes its script from the lease server alone. So in the second half the lease servers have the
lines that dpd prints for them, and machines boot to Linux's first userspace line, with dpd serving files over IPv6.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server6 import LEASE_SERVERS6, start_dead_end4, start_dnsmasq6
from tests.interop.linux import IPXE_EFI

from dpd.explain.lease_server_options import lease_server_options

pytestmark = pytest.mark.qemu

PXE_LIMIT_S = 150.0  # 20 s to iPXE's screen, 40 s to Linux, on two quiet cores
HTTP_LIMIT_S = 150.0  # 10 s more, in which OVMF gives IPv4 up
IPXE_SCREEN = "iPXE initialising devices"
MAC = "52:54:00:d9:d6:01"
SERVER = "fd77::10"
LOADERS = {"ipxe": "boot.ipxe", "uefi-x64": "ipxe.efi", "uefi-x64-http": "ipxe.efi"}
SETTINGS = """[boot]
directory = "{boot}"
[pxe]
enabled = {enabled}
ipv6 = true
[tftp]
listen = "::"
[http]
listen = "::"
[multicast]
enabled = false
"""
BOOT_SCRIPT = f"""#!ipxe
kernel http://[{SERVER}]:8080/boot/vmlinuz initrd=initrd.cpio console=ttyS0 quiet panic=-1 dpd.mac=${{net0/mac}}
initrd http://[{SERVER}]:8080/boot/initrd.cpio
boot
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None]) -> Lan:
    """Two hosts and the guest, who have IPv6 to speak to each other; there is no DHCPv4 server."""
    need(QEMU, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    for name, address in (("lease", "fd77::1/64"), ("dpd", f"{SERVER}/64")):
        lan[name].run("ip", "-6", "address", "add", address, "dev", "eth0", "nodad")
    return lan


def make_daemon(lan: Lan, directory: Path, *, pxe: bool) -> Daemon:
    boot = directory / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    (boot / "boot.ipxe").write_text(BOOT_SCRIPT, encoding="ascii")
    return Daemon(directory, SETTINGS.format(boot=boot, enabled=str(pxe).lower()), lan["dpd"])


@pytest.mark.parametrize("lease_server", LEASE_SERVERS6)
def test_pxe_firmware_takes_dpd_beside_a_lease_server(
    lan: Lan, tmp_path: Path, need: Callable[..., None], lease_server: str
) -> None:
    programs, start, nothing = LEASE_SERVERS6[lease_server]
    need(*programs)
    start(lan["lease"], tmp_path, nothing)
    with make_daemon(lan, tmp_path, pxe=True) as dpd, Guest.uefi_ipv6(lan, MAC, tmp_path) as guest:
        guest.wait_for(IPXE_SCREEN, PXE_LIMIT_S)
        answered = dpd.events("boot client answered over IPv6", mac=MAC, client_class="PXEClient")
        assert [event["loader"] for event in answered] == [f"tftp://[{SERVER}]/ipxe.efi"]
        (fetched,) = dpd.events("tftp transfer", file="ipxe.efi", verdict="completed")
        assert fetched["peer"].startswith("fd77::1")
        story = dpd.tell("pxe", "why", MAC, "--json")
    assert json.loads(story)["cause"] == "fine"
    # SOLICIT, ADVERTISE, REQUEST and REPLY at port 4011, and a transfer by the address that was overheard in between
    for event in ("discover", "offer", "boot_request", "boot_reply", "tftp"):
        assert f'"event": "{event}"' in story


def test_http_boot_takes_the_url_of_dpd_beside_a_lease_server(
    lan: Lan, tmp_path: Path, need: Callable[..., None]
) -> None:
    programs, start, nothing = LEASE_SERVERS6["kea"]
    need(*programs)
    start(lan["lease"], tmp_path, nothing)
    start_dead_end4(lan["lease"])
    with make_daemon(lan, tmp_path, pxe=True) as dpd, Guest.uefi_ipv6(lan, MAC, tmp_path, http=True) as guest:
        guest.wait_for(IPXE_SCREEN, HTTP_LIMIT_S)
        loader = f"http://[{SERVER}]:8080/boot/ipxe.efi"
        assert dpd.events("boot client answered over IPv6", mac=MAC, client_class="HTTPClient", loader=loader)
        assert dpd.events("http download", file="ipxe.efi", step="finished")
        assert not dpd.events("tftp transfer")


def test_pxe_to_linux_by_the_lines_for_dnsmasq(
    lan: Lan, tmp_path: Path, need: Callable[..., None], put_linux: linux.PutLinux
) -> None:
    need("dnsmasq")
    start_dnsmasq6(lan["lease"], tmp_path, lease_server_options("", SERVER, LOADERS)["dnsmasq6"])
    daemon = make_daemon(lan, tmp_path, pxe=False)
    put_linux(tmp_path / "boot")
    with daemon as dpd, Guest.uefi_ipv6(lan, MAC, tmp_path) as guest:
        guest.wait_for(linux.MARK, PXE_LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
        assert dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")
        assert dpd.events("http download", file="initrd.cpio", step="finished")


def test_http_boot_to_linux_by_the_lines_for_dnsmasq(
    lan: Lan, tmp_path: Path, need: Callable[..., None], put_linux: linux.PutLinux
) -> None:
    """dnsmasq's vendor class is not as the RFC has it; so this boot is the proof that firmware takes it."""
    need("dnsmasq")
    start_dnsmasq6(lan["lease"], tmp_path, lease_server_options("", SERVER, LOADERS)["dnsmasq6"])
    start_dead_end4(lan["lease"])
    daemon = make_daemon(lan, tmp_path, pxe=False)
    put_linux(tmp_path / "boot")
    with daemon as dpd, Guest.uefi_ipv6(lan, MAC, tmp_path, http=True) as guest:
        guest.wait_for(linux.MARK, HTTP_LIMIT_S)
        assert dpd.events("http download", file="ipxe.efi", step="finished")
        assert dpd.events("tftp transfer", file="boot.ipxe", verdict="completed")
