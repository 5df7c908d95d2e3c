# SPDX-License-Identifier: Apache-2.0
"""A boot image from `dpd boot-image add` to the last file of a boot: a running daemon, DHCP as firmware speaks it, curl for
TFTP and HTTP, the model of Windows' boot manager, and wimlib and hivex as judges."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.boot.boot_manager import BootManager
from tests.boot.conftest import bz_image
from tests.boot.hives import needs_hivex
from tests.boot.wims import adk_tree, make_wim, signed
from tests.daemon_process import DaemonProcess

from dpd.protocol.pxe.client import BootAnswer, PxeClient
from dpd.protocol.pxe.rules import ClientClass

pytestmark = needs_hivex
SERVER, THIEF = "127.0.0.1", "127.0.0.2"
PATIENCE_S = 10.0
FAILED = 22, 68, 69  # curl: HTTP error; TFTP: file not found; TFTP: no permission

SUBNET = """
[[pxe.subnet]]
network = "127.0.0.0/8"
ramdisk_block_size = 8192
ramdisk_window_size = 4
"""


class Machine:
    """One machine as firmware, with the loopback address for its lease."""

    def __init__(self, point: Point, mac: str, client_arch: int, client_class: ClientClass = ClientClass.PXE) -> None:
        self._point = point
        self._client = PxeClient(mac, client_arch, client_class, relay=SERVER)

    def boot(self) -> str:
        """DISCOVER, then the boot port, which is where the machine is seen at its address; the loader."""
        offer = self._ask(self._point.ports["port"], self._client.discover)
        if self._client.client_class == ClientClass.HTTP:
            return offer.loader
        return self._ask(self._point.ports["boot_port"], lambda xid: self._client.boot_request(xid, SERVER)).loader

    def _ask(self, port: int, build: Callable[[int], bytes]) -> BootAnswer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((SERVER, 0))
            sock.settimeout(PATIENCE_S)
            xid = sock.getsockname()[1]
            sock.sendto(build(xid), (SERVER, port))
            while True:
                if answer := self._client.read(sock.recv(2048), xid):
                    return answer


class Point:
    """The distribution point under test, and what others get from it."""

    def __init__(self, daemon: DaemonProcess, http_port: int) -> None:
        self._daemon = daemon
        self._http_port = http_port
        self.ports: dict[str, int] = {}
        for service in self.dpd("status", "--json")["services"]:
            self.ports |= service["ports"]

    def dpd(self, *arguments: object) -> Any:
        """A command of its own process; its JSON."""
        command = [sys.executable, "-m", "dpd", *map(str, arguments), "--socket", self._daemon.control_socket]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def by_tftp(self, name: str, source: str = SERVER) -> bytes | None:
        return curl(f"tftp://{SERVER}:{self.ports['tftp']}/{quote(name)}", source)

    def by_http(self, name: str, source: str = SERVER) -> bytes | None:
        return curl(f"http://{SERVER}:{self._http_port}/boot/{quote(name)}", source)


def curl(url: str, source: str = SERVER) -> bytes | None:
    """The file; None where there is none for this machine."""
    command = ["curl", "-sSf", "--path-as-is", "-m", "20", "--interface", source, "--tftp-blksize", "1428", url]
    ran = subprocess.run(command, capture_output=True, check=False)
    if ran.returncode in FAILED:
        return None
    assert ran.returncode == 0, (url, ran.stderr)
    return ran.stdout


@pytest.fixture
def point(tmp_path: Path, need: Callable[..., None]) -> Iterator[Point]:
    need("curl", "wimlib-imagex")
    with socket.create_server((SERVER, 0)) as sock:
        http_port = sock.getsockname()[1]
    daemon = DaemonProcess(tmp_path / "daemon")
    text = daemon.config.read_text()
    text = text.replace("[boot]\n", '[boot]\ndefault_image = "PE1"\n')
    text = re.sub(r'(\[http\]\nlisten = "127.0.0.1"\nport = )0', rf"\g<1>{http_port}", text)
    daemon.config.write_text(text + SUBNET)
    boot = daemon.state / "boot"
    boot.mkdir()
    (boot / "ipxe.efi").write_bytes(b"the rules' iPXE")
    (boot / "wimboot").write_bytes(b"wimboot")
    with daemon.ready():
        yield Point(daemon, http_port)


@pytest.mark.parametrize(
    ("client_arch", "loader", "is_uefi"), [(7, "bootmgfw.efi", True), (0, "pxeboot.n12", False)], ids=["uefi", "bios"]
)
def test_firmware_boots_windows_with_its_own_loaders_by_tftp_and_http(
    point: Point, tmp_path: Path, client_arch: int, loader: str, is_uefi: bool
) -> None:
    wim = make_wim(tmp_path / "boot.wim", adk_tree())
    assert point.dpd("boot-image", "add", wim, "--id", "PE1", "--json")["firmware"] == ["bios", "uefi-x64"]
    assert point.by_tftp("\\Boot\\BCD") is None  # nobody has asked for a boot yet
    assert Machine(point, "52:54:00:00:00:01", client_arch).boot() == loader
    for fetch in (point.by_tftp, point.by_http):
        assert fetch(loader) == (signed("2011") if is_uefi else b"pxeboot.n12")
        manager = BootManager(fetch, tmp_path, is_uefi)
        manager.start()
        assert manager.missed == []
        assert (manager.wim, manager.sdi) == (wim.read_bytes(), b"sdi")
        assert (manager.block_size, manager.window_size) == (8192, 4)  # of the machine's subnet
        for name in ("Boot\\BCD", "sources\\boot.wim", loader):
            assert fetch(name, THIEF) is None


def test_ipxe_gets_a_script_whose_every_file_is_there(point: Point, tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "boot.wim", adk_tree())
    point.dpd("boot-image", "add", wim, "--id", "PE1", "--json")
    assert Machine(point, "52:54:00:00:00:02", 7, ClientClass.IPXE).boot() == "boot.ipxe"
    script = point.by_tftp("boot.ipxe")
    assert script is not None
    urls = re.findall(r"http://\S+", script.decode())
    assert [url.rpartition("/")[2] for url in urls] == ["wimboot", "BCD", "boot.sdi", "boot.wim"]
    found = [curl(url) for url in urls]
    assert found[0] == b"wimboot"
    assert found[3] == wim.read_bytes()
    assert all(found)
    assert [curl(url, THIEF) is None for url in urls] == [False, True, True, True]  # loaders are public


def test_http_boot_is_given_a_url_that_leads_to_the_loader(point: Point, tmp_path: Path) -> None:
    point.dpd("boot-image", "add", make_wim(tmp_path / "boot.wim", adk_tree()), "--id", "PE1", "--json")
    Machine(point, "52:54:00:00:00:03", 7).boot()  # as some firmware does before it tries HTTP
    url = Machine(point, "52:54:00:00:00:03", 16, ClientClass.HTTP).boot()
    assert url.endswith("/boot/bootmgfw.efi")
    assert curl(url) == signed("2011")


def test_linux_starts_with_the_rules_ipxe_and_goes_on_with_its_script(point: Point, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bz_image())
    (tmp_path / "initrd").write_bytes(b"initrd")
    given = ("--kernel", tmp_path / "vmlinuz", "--initrd", tmp_path / "initrd", "--cmdline", "mac={mac}")
    point.dpd("boot-image", "add", *given, "--id", "PE1", "--json")
    assert Machine(point, "52:54:00:00:00:04", 7).boot() == "ipxe.efi"
    assert point.by_tftp("ipxe.efi") == b"the rules' iPXE"
    assert Machine(point, "52:54:00:00:00:04", 7, ClientClass.IPXE).boot() == "boot.ipxe"
    script = point.by_http("boot.ipxe")
    assert script is not None
    kernel, initrd = re.findall(r"http://\S+", script.decode())
    assert (curl(kernel), curl(initrd)) == (bz_image(), b"initrd")
    assert b"mac=52:54:00:00:00:04 " in script


def test_a_new_version_counts_from_the_next_boot_on(point: Point, tmp_path: Path) -> None:
    first = make_wim(tmp_path / "first.wim", adk_tree())
    second = make_wim(tmp_path / "second.wim", adk_tree() | {"new.txt": b"new"})
    point.dpd("boot-image", "add", first, "--id", "PE1", "--json")
    Machine(point, "52:54:00:00:00:05", 7).boot()
    assert point.by_tftp("Boot/BCD") is not None
    assert point.dpd("boot-image", "add", second, "--id", "PE1", "--json")["version"] == 2
    assert point.by_http("sources/boot.wim") == first.read_bytes()  # with one version a boot begins and ends
    Machine(point, "52:54:00:00:00:06", 7).boot()
    assert point.by_http("sources/boot.wim") == second.read_bytes()
