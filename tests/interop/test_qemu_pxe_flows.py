# SPDX-License-Identifier: Apache-2.0
"""Real firmware and the forms of answer that the model clients stand for: BINL, the modes beside a DHCP server on the same
host, the menu that sends a machine to its next boot device and the one that asks whoever sits there.

Nothing is booted to its end: the loader's transfer, or the firmware's own words on the serial line, is what is looked for.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from bench.netns import DEVICE, Lan
from tests.interop.daemon import Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_router
from tests.interop.linux import IPXE_EFI
from tests.interop.test_pxe_modes import serve_leases

pytestmark = pytest.mark.qemu

LIMIT_S = 120.0
LOGGED_S = 5.0
MAC = "52:54:00:d9:d0:61"


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None]) -> Lan:
    need(QEMU, "dnsmasq", IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    start_router(lan["lease"], DEVICE, "fd77::")
    return lan


def dpd_on(lan: Lan, directory: Path, pxe: str = "") -> Daemon:
    """`dpd serve` with iPXE as its loader for UEFI, and a script."""
    boot = directory / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    (boot / "boot.ipxe").write_text("#!ipxe\necho script of dpd\nsleep 600\n", encoding="ascii")
    settings = f'[boot]\ndirectory = "{boot}"\n[multicast]\nenabled = false\n[pxe]\n{pxe}'
    return Daemon(directory, settings, lan["dpd"])


def wait_for_transfer(guest: Guest, dpd: Daemon, file: str) -> None:
    """Until dpd has sent a file whole; the guest's serial line says what went wrong where it does not."""
    with suppress(AssertionError):
        guest.wait_for("NBP file downloaded successfully" if file.endswith(".efi") else "script of dpd", LIMIT_S)
    deadline = time.monotonic() + LOGGED_S  # the firmware's last acknowledgement is read after it told its screen
    while not dpd.events("tftp transfer", file=file, verdict="completed"):
        assert time.monotonic() < deadline, (guest.console[-1500:], dpd.events("tftp transfer"))
        time.sleep(0.1)


def steps(dpd: Daemon) -> list[tuple[str, dict[str, str]]]:
    events = json.loads(dpd.tell("pxe", "show", MAC, "--json"))["events"]
    return [(event["event"], event["fields"]) for event in events]


def test_ovmf_comes_to_4011_for_its_file_where_the_rule_says_binl(lan: Lan, tmp_path: Path) -> None:
    serve_leases(lan["lease"])
    rule = '[[pxe.rule]]\nname = "x64"\nclient_class = "PXEClient"\nloader = "ipxe.efi"\nflow = "binl"\n'
    with dpd_on(lan, tmp_path, rule) as dpd, Guest.uefi(lan, MAC, tmp_path) as guest:
        wait_for_transfer(guest, dpd, "ipxe.efi")
        said = [name for name, _ in steps(dpd)]
        assert said.index("offer") < said.index("boot_request") < said.index("boot_reply") < said.index("tftp")


@pytest.mark.parametrize("kind", ["uefi", "bios"])
def test_4011_alone_is_enough_beside_a_dhcp_server_on_the_same_host(kind: str, lan: Lan, tmp_path: Path) -> None:
    serve_leases(lan["dpd"], "--dhcp-option-force=60,PXEClient")
    guest = Guest.uefi(lan, MAC, tmp_path) if kind == "uefi" else Guest.bios(lan, MAC)
    with dpd_on(lan, tmp_path, 'mode = "boot_port_only"') as dpd, guest:
        wait_for_transfer(guest, dpd, "ipxe.efi" if kind == "uefi" else "boot.ipxe")
        assert "discover" not in [name for name, _ in steps(dpd)]


def test_sniffing_is_enough_beside_a_dhcp_server_on_the_same_host(lan: Lan, tmp_path: Path) -> None:
    serve_leases(lan["dpd"])
    with dpd_on(lan, tmp_path, 'mode = "sniff"') as dpd, Guest.uefi(lan, MAC, tmp_path) as guest:
        wait_for_transfer(guest, dpd, "ipxe.efi")
        assert "offer" in [name for name, _ in steps(dpd)]


def deploy(dpd: Daemon, computer: str) -> None:
    """The guest is PC-1; one deployment, for this computer, is there to be asked about at the machine."""
    dpd.tell("computer", "add", "PC-1", "--mac", MAC)
    dpd.tell("computer", "add", "PC-2", "--mac", "52:54:00:d9:d0:62")
    dpd.tell("deployment", "add", "--computer", computer)


@pytest.mark.parametrize(
    ("kind", "words", "next_words", "limit_s"),
    [
        ("uefi", "PXE-E21: Remote boot cancelled.", "BdsDxe: failed to load Boot0002", 40),  # HTTP boot follows
        ("bios", "Booting from PXE menu", "No more network devices", 15),
    ],
)
def test_a_machine_without_a_deployment_goes_on_with_its_next_boot_device(
    kind: str, words: str, next_words: str, limit_s: float, lan: Lan, tmp_path: Path
) -> None:
    """At once: the menu has no time to wait, and no file is asked for. UEFI goes on with HTTP boot, which is told a URL that
    leads nowhere; silence would cost it 78 s."""
    serve_leases(lan["lease"])
    guest = Guest.uefi(lan, MAC, tmp_path) if kind == "uefi" else Guest.bios(lan, MAC)
    with dpd_on(lan, tmp_path) as dpd:
        deploy(dpd, "PC-2")
        with guest:
            guest.wait_for(words, LIMIT_S)
            guest.wait_for(next_words, limit_s)
        told = steps(dpd)
        decision = next(fields for name, fields in told if name == "decision")
        assert (decision["outcome"], decision["cause"]) == ("abort", "nothing_deployed")
        assert [fields["loader"] for name, fields in told if name == "offer"][:1] == [""]
        assert not dpd.events("tftp transfer")


class Keyboard:
    """Keys for a guest, by QEMU's monitor."""

    def __init__(self, path: Path) -> None:
        self.options = ("-qmp", f"unix:{path},server=on,wait=off")
        self._path = path

    def press(self, *keys: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(self._path))
            with sock.makefile("rw", encoding="utf-8") as monitor:
                self._tell(monitor, "qmp_capabilities", {})
                for key in keys:
                    self._tell(monitor, "send-key", {"keys": [{"type": "qcode", "data": key}]})

    @staticmethod
    def _tell(monitor: object, command: str, arguments: dict[str, object]) -> None:
        monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")  # type: ignore[attr-defined]
        monitor.flush()  # type: ignore[attr-defined]
        while "return" not in json.loads(monitor.readline()):  # type: ignore[attr-defined]
            pass


def test_whoever_sits_there_presses_f8_and_chooses_the_network(lan: Lan, tmp_path: Path) -> None:
    serve_leases(lan["lease"])
    keyboard = Keyboard(tmp_path / "qmp.sock")
    with dpd_on(lan, tmp_path) as dpd:
        deploy(dpd, "PC-1")
        with Guest.uefi(lan, MAC, tmp_path, *keyboard.options) as guest:
            guest.wait_for("Press F8 for network boot", LIMIT_S)
            keyboard.press("f8")
            guest.wait_for("Start from this computer", 15)
            keyboard.press("down")
            keyboard.press("ret")
            wait_for_transfer(guest, dpd, "ipxe.efi")
        said = [name for name, _ in steps(dpd)]
        assert said.index("ticket") > said.index("boot_request")
