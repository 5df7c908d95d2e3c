# SPDX-License-Identifier: Apache-2.0
"""A machine that nobody knows: it shows a code and waits, somebody approves it, and it boots from where it stands."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq, start_router
from tests.interop.linux import IPXE_EFI
from tests.interop.test_qemu_boot import BIOS_LIMIT_S, UEFI_LIMIT_S

pytestmark = pytest.mark.qemu

MAC = "52:54:00:d9:d0:03"
IMAGE = "LAB00001"
COMMAND_LINE = "console=ttyS0 quiet panic=-1 dpd.mac={mac}"
SETTINGS = """
[pxe]
unknown_computers = "pending"
[boot]
directory = "{boot}"
default_image = "{image}"
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    need(QEMU, "dnsmasq", IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    start_dnsmasq(lan["lease"], tmp_path)
    start_router(lan["lease"], "eth0", "fd77::")
    return lan


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path, put_linux: linux.PutLinux) -> Iterator[Daemon]:
    """`dpd serve` that lets unknown machines wait, with Linux as its boot image; public is iPXE alone."""
    kernel, initramfs = put_linux(tmp_path)
    boot = tmp_path / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    with Daemon(tmp_path, SETTINGS.format(boot=boot, image=IMAGE), lan["dpd"]) as daemon:
        files = ("--kernel", kernel, "--initrd", initramfs)
        daemon.tell("boot-image", "add", "--id", IMAGE, *files, "--cmdline", COMMAND_LINE)
        yield daemon


def wait_until_pending(guest: Guest, dpd: Daemon, limit_s: float) -> str:
    """The code that the machine shows, which is the one on the operator's list."""
    guest.wait_for("Ask for its approval", limit_s)
    (machine,) = json.loads(dpd.tell("pxe", "pending", "--json"))["pending"]
    assert machine["mac"] == MAC
    guest.wait_for(machine["code"], 10)
    assert linux.MARK not in guest.console
    return str(machine["code"])


def states(dpd: Daemon) -> list[str]:
    """How far approval came, by the machine's story."""
    story = json.loads(dpd.tell("pxe", "show", MAC, "--json"))
    return [step["fields"]["state"] for step in story["events"] if step["event"] == "approval"]


def told(dpd: Daemon) -> list[dict[str, str]]:
    """The boot's status messages, which come within a second."""
    deadline = time.monotonic() + 20
    while True:
        messages = [json.loads(line) for line in dpd.tell("events", "--json").splitlines()]
        boot = [{"event": each["event"], **each["fields"]} for each in messages if each["event"].startswith("boot.")]
        if (boot and boot[-1]["event"] == "boot.finished") or time.monotonic() > deadline:
            return boot
        time.sleep(0.1)


STEPS = ["waiting", "loader_fetched", "approved", "granted", "loader_fetched", "finished"]


def test_bios_waits_with_a_code_and_boots_as_a_known_computer(lan: Lan, dpd: Daemon) -> None:
    with Guest.bios(lan, MAC) as guest:
        code = wait_until_pending(guest, dpd, BIOS_LIMIT_S)
        dpd.tell("pxe", "approve", code, "--computer", "PC-017", "--boot-image", IMAGE)
        guest.wait_for(linux.MARK, BIOS_LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
    assert states(dpd) == ["pending", "approved"]
    messages = told(dpd)
    assert [each["event"] for each in messages] == [f"boot.{step}" for step in STEPS], "each step once"
    assert (messages[0]["code"], messages[-1]["boot_image"], {each["mac"] for each in messages}) == (code, IMAGE, {MAC})
    assert "PC-017" in dpd.tell("computer", "list")


def test_uefi_waits_with_a_code_and_boots_once(lan: Lan, dpd: Daemon, tmp_path: Path) -> None:
    with Guest.uefi(lan, MAC, tmp_path) as guest:
        code = wait_until_pending(guest, dpd, UEFI_LIMIT_S)
        dpd.tell("pxe", "approve", code)
        guest.wait_for(linux.MARK, UEFI_LIMIT_S)
        guest.wait_for(f"dpd.mac={MAC}", 5)
    assert states(dpd) == ["pending", "approved"]
    assert [each["event"] for each in told(dpd)] == [f"boot.{step}" for step in STEPS]
