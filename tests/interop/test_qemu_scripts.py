# SPDX-License-Identifier: Apache-2.0
"""The scripts that dpd makes, run by a real iPXE, with somebody at the keyboard: a menu, a PIN, the way to the disk."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.boot.wims import adk_tree, make_wim
from tests.interop import linux
from tests.interop.daemon import Daemon
from tests.interop.guest import IPXE_ROM, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq, start_router
from tests.interop.linux import IPXE_EFI
from tests.interop.test_qemu_boot import BIOS_LIMIT_S

pytestmark = pytest.mark.qemu

MAC = "52:54:00:d9:d0:21"
IMAGE, PIN = "LAB00007", "2468"
SETTINGS = """
[pxe]
{pxe}
[boot]
directory = "{boot}"
default_image = "{image}"
"""
KEY_S = 0.1


class Keyboard:
    """The guest's keys, by QEMU's monitor."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))

    def press(self, *keys: str) -> None:
        for key in keys:
            self._sock.sendall(f"sendkey {key}\n".encode())
            time.sleep(KEY_S)  # QEMU holds a key for so long

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    need(QEMU, "dnsmasq", IPXE_ROM, IPXE_EFI)
    lan = make_lan("lease", "dpd", ipv6=True)
    start_dnsmasq(lan["lease"], tmp_path)
    start_router(lan["lease"], "eth0", "fd77::")
    return lan


@pytest.fixture
def serving(lan: Lan, tmp_path: Path, put_linux: linux.PutLinux) -> Iterator[Callable[[str], Daemon]]:
    """`serving('respond = true')`: `dpd serve` with this in [pxe] and Linux as its boot image."""
    kernel, initramfs = put_linux(tmp_path)
    boot = tmp_path / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    shutil.copy(kernel, boot / "wimboot")  # Debian has no wimboot; iPXE loads one as it loads a kernel
    started: list[Daemon] = []

    def start(pxe: str) -> Daemon:
        daemon = Daemon(tmp_path, SETTINGS.format(pxe=pxe, boot=boot, image=IMAGE), lan["dpd"])
        started.append(daemon.__enter__())
        files = ("--kernel", kernel, "--initrd", initramfs)
        line = ("--cmdline", "console=ttyS0 quiet panic=-1", "--description", "Lab Linux")
        daemon.tell("boot-image", "add", "--id", IMAGE, *files, *line)
        return daemon

    yield start
    for daemon in started:
        daemon.__exit__(None, None, None)


@contextmanager
def typing_at(lan: Lan, tmp_path: Path) -> Iterator[tuple[Guest, Keyboard]]:
    """SeaBIOS with iPXE on the card, and its keyboard."""
    monitor = tmp_path / "monitor"
    card = f"virtio-net-pci,netdev=lan,mac={MAC},bootindex=0"
    keys = ("-monitor", f"unix:{monitor},server=on,wait=off")
    with Guest(lan, MAC, "-M", "pc,graphics=off", "-device", card, *keys) as guest:
        guest.wait_for("iPXE", BIOS_LIMIT_S)
        keyboard = Keyboard(monitor)
        try:
            yield guest, keyboard
        finally:
            keyboard.close()


def test_windows_is_fetched_by_http_and_handed_to_wimboot(
    lan: Lan, serving: Callable[[str], Daemon], need: Callable[..., None], tmp_path: Path
) -> None:
    need("wimlib-imagex")
    dpd = serving("respond = true")
    dpd.tell("boot-image", "add", make_wim(tmp_path / "boot.wim", adk_tree()), "--id", IMAGE)
    with typing_at(lan, tmp_path) as (guest, _):
        guest.wait_for("/boot/wimboot...", BIOS_LIMIT_S)
        for name in ("BCD", "boot.sdi", "boot.wim"):
            guest.wait_for(f"/boot/{name}... ok", BIOS_LIMIT_S)
        guest.wait_for("Probing EDD", BIOS_LIMIT_S)  # the kernel's first words: iPXE has handed over


def wait_for_both(guest: Guest, text: str) -> None:
    """Until the text has come twice, and nothing has booted."""
    deadline = time.monotonic() + BIOS_LIMIT_S
    while guest.console.count(text) < 2:
        guest.watch(1)
        assert linux.MARK not in guest.console
        assert time.monotonic() < deadline, guest.console[-1000:]


def test_an_available_image_is_a_menu_and_the_one_who_chooses_it_gets_it(
    lan: Lan, serving: Callable[[str], Daemon], tmp_path: Path
) -> None:
    dpd = serving("respond = true")
    dpd.tell("deployment", "add", "--unknown", "--boot-image", IMAGE)
    with typing_at(lan, tmp_path) as (guest, keyboard):
        guest.wait_for("Boot from disk", BIOS_LIMIT_S)
        assert "Lab Linux" in guest.console
        assert linux.MARK not in guest.console
        keyboard.press("up", "ret")
        guest.wait_for(linux.MARK, BIOS_LIMIT_S)


def test_who_chooses_the_disk_goes_on_with_it(lan: Lan, serving: Callable[[str], Daemon], tmp_path: Path) -> None:
    dpd = serving("respond = true")
    dpd.tell("deployment", "add", "--unknown", "--boot-image", IMAGE)
    with typing_at(lan, tmp_path) as (guest, keyboard):
        guest.wait_for("Boot from disk", BIOS_LIMIT_S)
        keyboard.press("ret")
        guest.wait_for("Booting from SAN device 0x80", BIOS_LIMIT_S)
        guest.wait_for("No bootable device", BIOS_LIMIT_S)  # there is no disk; SeaBIOS is at its end
        assert linux.MARK not in guest.console


def test_the_right_pin_opens_the_image_and_a_wrong_one_asks_again(
    lan: Lan, serving: Callable[[str], Daemon], tmp_path: Path
) -> None:
    (tmp_path / "pin").write_text(f"{PIN}\n")
    (tmp_path / "pin").chmod(0o600)
    serving(f'pin_file = "{tmp_path}/pin"')
    with typing_at(lan, tmp_path) as (guest, keyboard):
        guest.wait_for("PIN:", BIOS_LIMIT_S)
        keyboard.press("9", "9", "ret")
        wait_for_both(guest, "PIN:")
        keyboard.press(*PIN, "ret")
        guest.wait_for(linux.MARK, BIOS_LIMIT_S)
