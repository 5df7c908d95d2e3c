# SPDX-License-Identifier: Apache-2.0
"""What tools such as PXEThief do to a distribution point: ask for the boot image, its BCD, its scripts and its variables.

One machine on the LAN, PC-017, has a deployment of Windows PE. Whoever asks from another address, under another MAC, before
PC-017 boots or after its deployment has gone, gets a refusal by name, and dpd counts it.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Host, Lan
from tests.boot.wims import adk_tree, make_wim
from tests.interop.daemon import Daemon
from tests.interop.test_pxe_thief import TFTP_DATA, TFTP_ERROR, Thief

from dpd.protocol.pxe.client import BootAnswer, PxeClient

IMAGE, MAC, OTHER_MAC = "LAB00001", "52:54:00:d9:d0:17", "52:54:00:ba:d0:01"
SILENCE_S = 1.0
SECRET = b"Sesame-open-4711"
SETTINGS = """
[pxe]
unknown_computers = "deny"
[boot]
directory = "{boot}"
"""
# What a Windows PE boot fetches here, in the spellings of its loaders.
GRANTED = ["bootmgfw.efi", "\\Boot\\BCD", "boot.wim", "/Boot/boot.sdi", "\\Boot\\Fonts\\wgl4_boot.ttf", "pxeboot.n12"]
# What is asked for beside that: the names of media variables, policy, scripts, and of files inside the image.
NEVER = [
    *("variables.dat", "\\SMSTemp\\2026.11.21.17.00.00.0001.{A}.boot.var", "SMSBoot/x64/variables.dat", "policy.xml"),
    *("Windows/System32/startnet.cmd", "startnet.cmd", "unattend.xml", "site.db", "../site.db", "control.sock"),
    *("boot-images/LAB00001", "LAB00001/1/boot.wim.tree", "bootstrap.ini", "sms/data/variables.dat"),
]
REFUSED_TFTP = "dpd_tftp_refused_total"
REFUSED_HTTP = "dpd_http_refused_files_total"


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None]) -> Lan:
    need("curl", "wimlib-imagex")
    return make_lan("dpd", "client", "thief")


@pytest.fixture
def dpd(lan: Lan, tmp_path: Path) -> Iterator[Daemon]:
    """`dpd serve` with one known computer, and Windows PE for it alone. Its WIM holds what a thief wants."""
    boot = tmp_path / "boot"
    boot.mkdir()
    tree = adk_tree() | {"sms/data/variables.dat": SECRET, "Windows/System32/startnet.cmd": b"net use " + SECRET}
    wim = make_wim(tmp_path / "boot.wim", tree)
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as daemon:
        daemon.tell("boot-image", "add", wim, "--id", IMAGE)
        daemon.tell("computer", "add", "PC-017", "--mac", MAC)
        daemon.tell("deployment", "add", "--computer", "PC-017", "--boot-image", IMAGE, "--required")
        yield daemon


class Machine:
    """A model of EDK2 with an address of its own."""

    def __init__(self, host: Host, server: Host, mac: str) -> None:
        self._host, self._server, self._client = host, server, PxeClient(mac)

    def ask(self, port: int) -> BootAnswer | None:
        """A DISCOVER on 67, or a REQUEST on 4011; None after a second of silence."""
        with self._host.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            sock.bind(("", 68 if port == 67 else port))
            if port == 67:
                sock.sendto(self._client.discover(7), ("255.255.255.255", 67))
            else:
                sock.sendto(self._client.boot_request(7, self._host.address), (self._server.address, port))
            waiting = select.select([sock], [], [], SILENCE_S)[0]
            return self._client.read(sock.recv(2048), 7) if waiting else None

    def boot(self) -> str:
        """As far as the name of the loader."""
        assert self.ask(67) is not None
        answer = self.ask(4011)
        assert answer is not None
        return answer.loader


def as_url(name: str) -> str:
    return "/boot/" + name.replace("\\", "%5C")


def refuses_all(dpd: Daemon, host: Thief, reason: str) -> None:
    """Every name, by both protocols: an error, not one byte of an image, and the reason counted."""
    for name in GRANTED + NEVER:
        before = dpd.metric(REFUSED_TFTP), dpd.metric(REFUSED_HTTP)
        by_tftp, by_http = host.tftp(name), host.http(as_url(name))
        assert by_tftp.startswith(TFTP_ERROR), name
        assert by_http.split()[1] in (b"403", b"404"), name
        assert SECRET not in by_tftp + by_http
        assert (dpd.metric(REFUSED_TFTP), dpd.metric(REFUSED_HTTP)) == (before[0] + 1, before[1] + 1), name
    label = f'{{reason="{reason}"}}'
    assert dpd.metric(REFUSED_TFTP + label) >= len(GRANTED)
    assert dpd.metric(REFUSED_HTTP + label) >= len(GRANTED)


def test_the_machine_that_is_meant_gets_its_image_and_nothing_else(lan: Lan, dpd: Daemon) -> None:
    """A file inside the WIM is not a name, and neither is what lies beside the image on the distribution point."""
    refuses_all(dpd, Thief(lan, "client"), "no_ticket")  # before it boots
    loader = Machine(lan["client"], lan["dpd"], MAC).boot()
    client = Thief(lan, "client")
    assert loader.endswith("bootmgfw.efi")
    for name in (loader, *GRANTED):
        assert client.tftp(name).startswith(TFTP_DATA), name
        assert client.http(as_url(name)).startswith(b"HTTP/1.1 200"), name
    for name in NEVER:
        assert client.tftp(name).startswith(TFTP_ERROR), name
        assert client.http(as_url(name)).split()[1] in (b"403", b"404"), name


def test_nothing_for_another_address_and_mac_while_the_machine_boots(lan: Lan, dpd: Daemon) -> None:
    Machine(lan["client"], lan["dpd"], MAC).boot()
    stranger = Machine(lan["thief"], lan["dpd"], OTHER_MAC)
    assert (stranger.ask(67), stranger.ask(4011)) == (None, None)
    refuses_all(dpd, Thief(lan), "no_ticket")
    story = json.loads(dpd.tell("pxe", "show", OTHER_MAC, "--json"))
    causes = [step["fields"]["cause"] for step in story["events"] if step["event"] == "decision"]
    assert set(causes) == {"unknown_denied"}


def test_nothing_any_more_when_the_deployment_has_gone(lan: Lan, dpd: Daemon) -> None:
    Machine(lan["client"], lan["dpd"], MAC).boot()
    client = Thief(lan, "client")
    assert client.tftp("boot.wim").startswith(TFTP_DATA)
    (listed,) = json.loads(dpd.tell("deployment", "list", "--json"))["deployments"]
    dpd.tell("deployment", "remove", str(listed["deployment"]["id"]))
    for name in GRANTED:
        assert client.tftp(name).startswith(TFTP_ERROR), name
        assert client.http(as_url(name)).startswith(b"HTTP/1.1 403"), name
