# SPDX-License-Identifier: Apache-2.0
"""Secure Boot from `dpd serve`: OVMF with Microsoft's authorities enrolled, Debian's shim, its GRUB, its kernel.

Debian's signed GRUB does not know proxyDHCP: it takes the TFTP server from the lease. So the lease server is to name dpd
as next-server; where it does not, GRUB stands still and dpd says so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import QEMU, SECURE_OVMF_CODE, SECURE_OVMF_VARIABLES, Guest
from tests.interop.lease_server import start_dnsmasq
from tests.interop.variable_store import carried_certificates, keep_signature, trust_only

pytestmark = pytest.mark.qemu

LIMIT_S = 180.0  # 25 s on two quiet cores
SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
MAC = "52:54:00:d9:d0:05"
STALL_S = 25.0  # dpd speaks of a stall after 20 s without a request

SETTINGS = """
[boot]
directory = "{boot}"
[[pxe.rule]]
name = "secure-x64"
client_class = "PXEClient"
client_arch = [7, 9]
loader = "shimx64.efi"
"""
GRUB_CFG = """
linux /vmlinuz console=ttyS0 panic=-1 dpd.mac=$net_default_mac
initrd /initrd.cpio
boot
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None]) -> Lan:
    need(QEMU, "dnsmasq", SHIM, GRUB, SECURE_OVMF_CODE, SECURE_OVMF_VARIABLES)
    return make_lan("lease", "dpd")


@pytest.fixture
def boot(tmp_path: Path, put_linux: linux.PutLinux) -> Path:
    """A boot directory with the signed chain."""
    boot = tmp_path / "boot"
    (boot / "grub").mkdir(parents=True)
    shutil.copy(SHIM, boot / "shimx64.efi")
    shutil.copy(GRUB, boot / "grubx64.efi")
    put_linux(boot)
    (boot / "grub/grub.cfg").write_text(GRUB_CFG, encoding="ascii")
    return boot


@pytest.fixture
def dpd(lan: Lan, boot: Path, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as daemon:
        yield daemon


@pytest.fixture
def firmware_of_2023(tmp_path: Path) -> Path:
    """Variables of a firmware that trusts Microsoft's authority of 2023 for others' loaders, and nobody else."""
    authorities = carried_certificates(SHIM.read_bytes())
    if "Microsoft UEFI CA 2023" not in authorities:
        pytest.skip("this shim-signed has no signature of 2023")
    path = tmp_path / "firmware-of-2023.fd"
    path.write_bytes(trust_only(SECURE_OVMF_VARIABLES.read_bytes(), authorities["Microsoft UEFI CA 2023"]))
    return path


def test_shim_grub_and_kernel_boot_where_the_lease_server_names_dpd(lan: Lan, dpd: Daemon, tmp_path: Path) -> None:
    start_dnsmasq(lan["lease"], tmp_path, f"--dhcp-boot=,,{lan['dpd'].address}")
    with Guest.secure_uefi(lan, MAC, tmp_path) as guest:
        guest.wait_for("Secure boot enabled", LIMIT_S)
        guest.wait_for(linux.MARK, LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
    for file in ("shimx64.efi", "grubx64.efi", "vmlinuz", "initrd.cpio"):
        assert dpd.events("tftp transfer", file=file, verdict="completed"), file


def test_where_the_lease_server_does_not_name_dpd_grub_stands_still_and_dpd_says_why(
    lan: Lan, dpd: Daemon, firmware_of_2023: Path, tmp_path: Path
) -> None:
    """dnsmasq names itself as next-server when nobody tells it otherwise, and GRUB asks there for half an hour.

    The machine knows Microsoft's authority of 2023 alone: Debian's shim has a signature of each, and fits every machine.
    """
    start_dnsmasq(lan["lease"], tmp_path)
    with Guest.secure_uefi(lan, MAC, tmp_path, firmware_of_2023) as guest:
        guest.wait_for("Welcome to GRUB!", LIMIT_S)
        assert linux.MARK not in guest.watch(STALL_S)
    told = json.loads(dpd.tell("pxe", "why", MAC, "--json"))
    assert told["cause"] == "signed_grub_stall"
    assert lan["dpd"].address in told["next_step"]
    assert not dpd.events("tftp transfer", file="vmlinuz")


def test_the_firmware_refuses_a_tampered_loader_and_dpd_tells_what_it_served(
    lan: Lan, boot: Path, tmp_path: Path
) -> None:
    start_dnsmasq(lan["lease"], tmp_path)
    shim = boot / "shimx64.efi"
    shim.write_bytes(tampered(shim.read_bytes()))
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as dpd:
        with Guest.secure_uefi(lan, MAC, tmp_path) as guest:
            guest.wait_for("Access Denied", LIMIT_S)
        story = json.loads(dpd.tell("pxe", "show", MAC, "--json"))["events"]
    assert [e["fields"]["file"] for e in story if e["event"] == "loader_fault"][:1] == ["shimx64.efi"]
    served = [e["fields"] for e in story if e["event"] == "tftp" and e["fields"]["verdict"] == "completed"]
    assert [(fields["file"], fields["sha256"]) for fields in served] == [
        ("shimx64.efi", hashlib.sha256(shim.read_bytes()).hexdigest())
    ]


def test_a_machine_that_knows_the_authority_of_2023_alone_refuses_what_that_of_2011_signed(
    lan: Lan, boot: Path, firmware_of_2023: Path, tmp_path: Path
) -> None:
    start_dnsmasq(lan["lease"], tmp_path)
    shim = boot / "shimx64.efi"
    shim.write_bytes(keep_signature(shim.read_bytes(), 0))
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as dpd:
        assert not dpd.events("boot file will not start")  # it is sound, and other machines start it
        with Guest.secure_uefi(lan, MAC, tmp_path, firmware_of_2023) as guest:
            guest.wait_for("Access Denied", LIMIT_S)


def tampered(loader: bytes) -> bytes:
    """The loader with one bit of its code turned."""
    changed = bytearray(loader)
    changed[0x2000] ^= 1
    return bytes(changed)
