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
from tests.interop.linux import IPXE_EFI
from tests.interop.tls_authority import TlsAuthority

pytestmark = pytest.mark.qemu

LIMIT_S = 180.0  # 35 s on two quiet cores
SILENCE_S = 25.0  # dpd judges after 20 s
MAC = "52:54:00:d9:d0:06"
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


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """A LAN whose lease server knows nothing of booting. IPv6 is off, so that iPXE waits for no router."""
    need(QEMU, "dnsmasq", IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path)
    return lan


def serve(lan: Lan, boot: Path, tmp_path: Path, authority: TlsAuthority) -> Daemon:
    """dpd with a certificate that names its address, since firmware compares it with the URL's."""
    certificate, private_key = authority.issue(tmp_path, lan["dpd"].address)
    return Daemon(tmp_path, SETTINGS.format(boot=boot, certificate=certificate, private_key=private_key), lan["dpd"])


def guest_that_trusts(authority: TlsAuthority, lan: Lan, tmp_path: Path) -> Guest:
    authorities = tmp_path / "authorities.esl"
    authorities.write_bytes(authority.signature_list())
    return Guest.uefi(lan, MAC, tmp_path, "-fw_cfg", f"name=etc/edk2/https/cacerts,file={authorities}", http=True)


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
