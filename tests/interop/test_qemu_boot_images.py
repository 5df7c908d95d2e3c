# SPDX-License-Identifier: Apache-2.0
"""Boot images that firmware starts by itself: an EFI program by PXE and by HTTP boot, beside dnsmasq as lease server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.guest import OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq
from tests.interop.test_qemu_boot import UEFI_LIMIT_S

pytestmark = pytest.mark.qemu

GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
SETTINGS = '[boot]\ndefault_image = "GRUB"\n'


@pytest.mark.parametrize(
    ("http", "mac"), [(False, "52:54:00:d9:d0:22"), (True, "52:54:00:d9:d0:23")], ids=["pxe", "http"]
)
def test_an_efi_program_starts_out_of_the_store(
    make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path, http: bool, mac: str
) -> None:
    need(QEMU, "dnsmasq", GRUB, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path)
    shutil.copy(GRUB, tmp_path / "grubx64.efi")
    with Daemon(tmp_path, SETTINGS, lan["dpd"]) as dpd:
        dpd.tell("boot-image", "add", "--efi", tmp_path / "grubx64.efi", "--id", "GRUB")
        with Guest.uefi(lan, mac, tmp_path, http=http) as guest:
            guest.wait_for("GRUB", UEFI_LIMIT_S)
        assert "grubx64.efi" in dpd.tell("pxe", "show", mac)
