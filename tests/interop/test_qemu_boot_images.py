# SPDX-License-Identifier: Apache-2.0
"""Boot images that firmware starts by itself: an EFI program by HTTP boot, and by PXE the boot manager that a WIM brings
along, beside dnsmasq as lease server. GRUB stands in for the boot manager, which Debian has not; and Windows' WIM is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.boot.wims import adk_tree, make_wim
from tests.interop.daemon import Daemon
from tests.interop.guest import OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq
from tests.interop.test_qemu_boot import UEFI_LIMIT_S

pytestmark = pytest.mark.qemu

GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
SETTINGS = '[boot]\ndefault_image = "LAB00008"\n'


def test_an_efi_program_starts_out_of_the_store_by_http_boot(
    make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path
) -> None:
    need(QEMU, "dnsmasq", GRUB, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path)
    shutil.copy(GRUB, tmp_path / "grubx64.efi")
    mac = "52:54:00:d9:d0:23"
    with Daemon(tmp_path, SETTINGS, lan["dpd"]) as dpd:
        dpd.tell("boot-image", "add", "--efi", tmp_path / "grubx64.efi", "--id", "LAB00008")
        with Guest.uefi(lan, mac, tmp_path, http=True) as guest:
            guest.wait_for("GRUB", UEFI_LIMIT_S)
        assert "grubx64.efi" in dpd.tell("pxe", "show", mac)


def test_firmware_starts_by_pxe_the_boot_manager_that_a_wim_brings_along(
    make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path
) -> None:
    need(QEMU, "dnsmasq", "wimlib-imagex", GRUB, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path)
    tree = adk_tree() | {"Windows/Boot/EFI/bootmgfw.efi": GRUB.read_bytes()}
    wim = make_wim(tmp_path / "boot.wim", tree)
    mac = "52:54:00:d9:d0:24"
    with Daemon(tmp_path, SETTINGS, lan["dpd"]) as dpd:
        dpd.tell("boot-image", "add", wim, "--id", "LAB00008")
        with Guest.uefi(lan, mac, tmp_path) as guest:
            guest.wait_for("GRUB", UEFI_LIMIT_S)
        assert "bootmgfw.efi" in dpd.tell("pxe", "show", mac)
