# SPDX-License-Identifier: Apache-2.0
"""A 64-bit ARM machine boots from `dpd serve`: AAVMF's PXE client, Debian's GRUB for arm64 and the menu that dpd serves it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.debian import PackageMissing, foreign_file
from tests.interop.guest import AAVMF_CODE, AAVMF_VARIABLES, QEMU_ARM64, Guest
from tests.interop.lease_server import start_dnsmasq

pytestmark = pytest.mark.qemu

LIMIT_S = 240.0  # 25 s on two quiet cores
MAC = "52:54:00:d9:d0:07"
GRUB = "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"
SCREEN = "DPD-LAB-GRUB-OK"
SETTINGS = """
[boot]
directory = "{boot}"
[[pxe.rule]]
name = "uefi-arm64"
client_class = "PXEClient"
client_arch = [11]
loader = "grubaa64.efi"
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """Its lease server names dpd as next-server, which Debian's signed GRUB needs."""
    need(QEMU_ARM64, "dnsmasq", "apt-get", "dpkg-deb", AAVMF_CODE, AAVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path, f"--dhcp-boot=,,{lan['dpd'].address}")
    return lan


def test_uefi_on_arm64_boots_grub_with_the_menu_that_dpd_serves(lan: Lan, tmp_path: Path) -> None:
    try:
        grub = foreign_file("grub-efi-arm64-signed", GRUB, "arm64")
    except PackageMissing as error:
        pytest.skip(f"missing: grub-efi-arm64-signed: {error}")
    boot = tmp_path / "boot"
    (boot / "grub").mkdir(parents=True)
    shutil.copy(grub, boot / "grubaa64.efi")
    (boot / "grub/grub.cfg").write_text(f"echo {SCREEN} $grub_cpu $net_default_mac\nsleep 60\n", encoding="ascii")
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as dpd, Guest.arm64(lan, MAC, tmp_path) as guest:
        guest.wait_for(f"{SCREEN} arm64 {MAC}", LIMIT_S)
    assert dpd.events("boot client answered", mac=MAC, client_arch="uefi-arm64", loader="grubaa64.efi")
    assert dpd.events("tftp transfer", file="grubaa64.efi", verdict="probe")
    assert dpd.events("tftp transfer", file="grubaa64.efi", verdict="completed")
    assert dpd.events("tftp transfer", file="grub/grub.cfg", verdict="completed")
