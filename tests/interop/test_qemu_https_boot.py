# SPDX-License-Identifier: Apache-2.0
"""UEFI HTTPS boot from `dpd serve`: the operator's own authority is enrolled in OVMF, dpd has a certificate from it.

OVMF takes the authorities from QEMU's `etc/edk2/https/cacerts` (docs/specs/fw_cfg.rst of QEMU names the mechanism, OVMF's
README the item) into the variable TlsCaCertificate, where a real machine's setup menu puts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq
from tests.interop.lease_server6 import start_dead_end4, start_dnsmasq6
from tests.interop.linux import IPXE_EFI
from tests.interop.tls_authority import TlsAuthority

pytestmark = pytest.mark.qemu

LIMIT_S = 180.0  # 35 s on two quiet cores
SILENCE_S = 25.0  # dpd judges after 20 s
MAC = "52:54:00:d9:d0:06"
SERVER6 = "fd77::10"
IPXE_SCREEN = "iPXE initialising devices"
SETTINGS = """
[boot]
directory = "{boot}"
[http]
certificate = "{certificate}"
private_key = "{private_key}"
[[pxe.rule]]
name = "ipxe"
client_class = "iPXE"
loader = "boot.ipxe"
[[pxe.rule]]
name = "uefi-x64-https"
client_class = "HTTPClient"
client_arch = [16]
loader = "https://{{server}}:{{https_port}}/boot/ipxe.efi"
"""
SETTINGS6 = SETTINGS.replace("[http]", '[pxe]\nipv6 = true\n[tftp]\nlisten = "::"\n[http]\nlisten = "::"')


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """A LAN whose lease server knows nothing of booting. IPv6 is off, so that iPXE waits for no router."""
    need(QEMU, "dnsmasq", IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path)
    return lan


@pytest.fixture
def lan6(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """A LAN whose DHCPv6 lease server knows nothing of booting; DHCPv4 leads firmware nowhere."""
    need(QEMU, "dnsmasq", IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    for name, address in (("lease", "fd77::1/64"), ("dpd", f"{SERVER6}/64")):
        lan[name].run("ip", "-6", "address", "add", address, "dev", "eth0", "nodad")
    start_dnsmasq6(lan["lease"], tmp_path)
    start_dead_end4(lan["lease"])
    return lan


def serve(
    lan: Lan, boot: Path, tmp_path: Path, authority: TlsAuthority, address: str = "", settings: str = SETTINGS
) -> Daemon:
    """dpd with a certificate that names its address, since firmware compares it with the URL's."""
    certificate, private_key = authority.issue(tmp_path, address or lan["dpd"].address)
    filled = settings.format(boot=boot, certificate=certificate, private_key=private_key)
    return Daemon(tmp_path, filled, lan["dpd"])


def guest_that_trusts(
    authority: TlsAuthority, lan: Lan, tmp_path: Path, make: Callable[..., Guest] = Guest.uefi
) -> Guest:
    authorities = tmp_path / "authorities.esl"
    authorities.write_bytes(authority.signature_list())
    return make(lan, MAC, tmp_path, "-fw_cfg", f"name=etc/edk2/https/cacerts,file={authorities}", http=True)


def test_uefi_boots_linux_by_https(lan: Lan, boot_directory: Path, tmp_path: Path) -> None:
    authority = TlsAuthority()
    with serve(lan, boot_directory, tmp_path, authority) as dpd, guest_that_trusts(authority, lan, tmp_path) as guest:
        guest.wait_for(linux.MARK, LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
    loader = f"https://{lan['dpd'].address}:8443/boot/ipxe.efi"
    assert dpd.events("boot client answered", mac=MAC, client_class="HTTPClient", loader=loader)
    assert dpd.events("http download", file="ipxe.efi", step="finished")


def test_firmware_that_does_not_know_the_authority_takes_nothing(
    lan: Lan, boot_directory: Path, tmp_path: Path
) -> None:
    with serve(lan, boot_directory, tmp_path, TlsAuthority()) as dpd:
        with guest_that_trusts(TlsAuthority("Somebody else"), lan, tmp_path) as guest:
            guest.wait_for("Could not retrieve NBP file size", LIMIT_S)
            guest.watch(SILENCE_S)
        told = json.loads(dpd.tell("pxe", "why", MAC, "--json"))
        assert dpd.events("boot client answered", mac=MAC, client_class="HTTPClient")
        assert not dpd.events("http download")
    assert told["cause"] == "https_not_trusted"


def test_uefi_takes_the_loader_by_https_over_ipv6(lan6: Lan, boot_directory: Path, tmp_path: Path) -> None:
    """OVMF 2022.11 verifies an address in brackets by the certificate's address. iPXE's script would be the lease server's."""
    authority = TlsAuthority()
    with (
        serve(lan6, boot_directory, tmp_path, authority, SERVER6, SETTINGS6) as dpd,
        guest_that_trusts(authority, lan6, tmp_path, Guest.uefi_ipv6) as guest,
    ):
        guest.wait_for(IPXE_SCREEN, LIMIT_S)
    loader = f"https://[{SERVER6}]:8443/boot/ipxe.efi"
    assert dpd.events("boot client answered over IPv6", mac=MAC, client_class="HTTPClient", loader=loader)
    assert dpd.events("http download", file="ipxe.efi", step="finished")
