# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between power-on and the end of a task sequence, with real machines: each fault ends in a deployed machine,
whose disk is looked at, or in a report that says what, where, and what to try.

Faults come at places that the site tells: the wire is made slow enough for a step to last, and the machine's own report of
its progress says that it is in the middle.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bench.netns import Lan
from tests.interop.daemon import DPD, Daemon
from tests.interop.deploying_guests import IMAGE, LIMIT_S, Stock, empty_disk, lan_beside_dnsmasq, wait_for
from tests.interop.guest import Guest

from dpd.cli.client import Client
from dpd.protocol.multicast.geometry import SLAB_BYTES

pytestmark = pytest.mark.qemu

MIB = 1 << 20
IMPATIENT = "LAB00021"  # the environment once more
SMALL, DAMAGED, FOREIGN = "LAB00022", "LAB00023", "LAB00024"  # packages
FAST_MBIT_S, SLOW_MBIT_S = 20, 8  # what such a machine can take; and 40 MiB take so long that nobody misses the middle
MULTICAST = f"[multicast]\nrate_mbit_s = {FAST_MBIT_S}\nfloor_kib_s = 0\n"  # slow is no reason to take HTTP
SMALL_DISK_BYTES = 512 * MIB
IMPATIENT_LINE = "quiet panic=30 dpd.mac={mac} console=ttyS0 dpd.failed=wait dpd.patience=20"
HAS_FAILED = "the deployment failed"
DISK = """
[[step]]
name = "Disk"
do = "partition_disk"
partitions = [
  { name = "content", size = "40%", format = "ext4" },
  { name = "data", size = "30%", format = "ext4" },
  { name = "system", size = "rest", format = "ext4", kind = "data" },
]
"""


class Site:
    """A point with its LAN, and a machine's way through it."""

    def __init__(self, lan: Lan, daemon: Daemon, home: Path) -> None:
        self.lan, self.daemon, self.home = lan, daemon, home
        self.client = Client(str(daemon.socket))

    def deploy(self, computer: str, mac: str, sequence: str, image: str = IMAGE) -> None:
        """A known computer that is to run this sequence."""
        place = self.home / f"{computer}.toml"
        place.write_text(f'name = "{computer.lower()}"\n{sequence}', "utf-8")
        self.daemon.tell("sequence", "publish", place)
        self.daemon.tell("computer", "add", computer, "--mac", mac)
        words = ("--boot-image", image, "--sequence", computer.lower(), "--required")
        self.daemon.tell("deployment", "add", "--computer", computer, *words)

    def runs(self, computer: str) -> list[dict[str, Any]]:
        """The newest first."""
        return list(self.client.get("executions", machine=computer)["executions"])

    def steps(self, computer: str) -> dict[str, dict[str, Any]]:
        """Those of its newest run, by their names."""
        (newest, *_) = self.runs(computer)
        return {str(each["name"]): each for each in self.client.get("executions", newest["id"])["steps"]}

    def watch(self, computer: str) -> str:
        """What `dpd deploy watch` prints of a machine that has ended."""
        words = ("deploy", "watch", "--machine", computer, "--until-done", "--json")
        return self.lan["dpd"].run("env", f"DPD_SOCKET={self.daemon.socket}", DPD, *words, check=False)

    def slow_down(self, way: str) -> None:
        """Either all that the point sends, or what its sessions send."""
        if way == "multicast":
            self.daemon.tell("session", "uplink", str(SLOW_MBIT_S))
        else:
            self.lan.limit_sending("dpd", SLOW_MBIT_S)

    def speed_up(self) -> None:
        self.lan.send_unlimited("dpd")
        self.daemon.tell("session", "uplink", "0")

    def wait_in(self, computer: str, step: str, saying: str = "", run: int = 1) -> None:
        """Until the site has heard that the machine, in its so-manieth run, is in the middle of the step, with such a message."""
        wait_for(lambda: self._is_in(computer, step, saying, run) or None, f"{computer} to be in the middle of {step}")

    def _is_in(self, computer: str, step: str, saying: str, run: int) -> bool:
        runs = self.runs(computer)
        assert "failed" not in (each["state"] for each in runs), runs
        if len(runs) < run:
            return False
        told = self.steps(computer)[step]
        is_counted = 0 < told["done_bytes"] < told["total_bytes"] or told["kind"] == "run_command_line"
        return bool(told["state"] == "running" and is_counted and saying in told["message"])


@pytest.fixture(scope="module")
def site(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("faults")
    with lan_beside_dnsmasq(home) as lan, stock.serve(home, "dpd", lan, MULTICAST) as daemon:
        daemon.tell("content", "publish", capture(tree(home / "tree"), home / "small.wim"), "--package", SMALL)
        yield Site(lan, daemon, home)


def tree(folder: Path, files: int = 5) -> Path:
    """Some files that do not get smaller."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/grüße").write_text("hallo\n", "utf-8")
    (folder / "etc/link").symlink_to("grüße")
    for number in range(files):
        (folder / f"data-{number}").write_bytes(random.Random(number).randbytes(8 * MIB))
    return folder


def capture(folder: Path, wim: Path) -> Path:
    run("wimlib-imagex", "capture", folder, wim, "small", "--unix-data", "--compress=none")
    return wim


def run(*command: str | Path) -> str:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def reach(guest: Guest, text: str) -> None:
    """Until it is on the console; not as long as that takes where the deployment has failed."""

    def look() -> bool | None:
        console = guest.console
        assert text in console or HAS_FAILED not in console, console[-2500:]
        return text in console or None

    wait_for(look, f"{text!r} on the console", LIMIT_S)


def partition(disk: Path, number: int) -> str:
    """How debugfs and e2fsck call it, which need no mount."""
    table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    return f"{disk}?offset={int(table['partitions'][number - 1]['start']) * 512}"


def files_of(disk: Path, number: int, into: Path) -> Path:
    """A copy of all that is on a partition whose file system is whole."""
    into.mkdir()
    run("e2fsck", "-fn", partition(disk, number))
    run("debugfs", "-R", f"rdump / {into}", partition(disk, number))
    (into / "lost+found").rmdir()
    return into


def assert_same(one: Path, other: Path) -> None:
    assert run("diff", "-r", "--no-dereference", one, other) == ""


@contextmanager
def deaf(lan: Lan, port: str) -> Iterator[None]:
    """As at a switch whose filter has no entry: what is sent to a group does not get to this port, and all else does."""
    lan.switch.run("nft", "add table bridge deaf")
    lan.switch.run("nft", "add chain bridge deaf forward { type filter hook forward priority 0; }")
    lan.switch.run("nft", f"add rule bridge deaf forward oifname {port} ip daddr 224.0.0.0/4 counter drop")
    try:
        yield
        assert "counter packets 0 " not in lan.switch.run("nft", "list table bridge deaf")
    finally:
        lan.switch.run("nft", "delete table bridge deaf")


def test_where_multicast_is_blocked_or_ends_and_the_point_is_killed_a_machine_is_deployed_by_http(
    site: Site, tmp_path: Path
) -> None:
    computer, mac = "PC-041", "52:54:00:d9:d0:41"
    sequence = f"""{DISK}
[[step]]
name = "Receive"
do = "join_multicast"
package = "{SMALL}"
volume = "content"
[[step]]
name = "Apply"
do = "apply_data_image"
package = "{SMALL}"
volume = "data"
[[step]]
name = "Apply meanwhile"
do = "apply_os_image"
package = "{SMALL}"
volume = "system"
multicast = true
content_volume = "content"
"""
    site.deploy(computer, mac, sequence)
    disk = empty_disk(tmp_path, size_bytes=SMALL_DISK_BYTES)
    with Guest.bios(site.lan, mac, disk=disk) as guest:
        with deaf(site.lan, guest.tap):
            reach(guest, "dpd: deployment environment")
            site.slow_down("all")
            site.wait_in(computer, "Receive", saying="by HTTP")
            site.daemon.kill()
            site.lan.send_unlimited("dpd")
            site.daemon.restart()
            site.slow_down("multicast")
            reach(guest, "step 3 of 4: Apply")
        site.wait_in(computer, "Apply meanwhile", saying="by multicast")
        with deaf(site.lan, guest.tap):
            reach(guest, "dpd: done")
    site.speed_up()
    (execution,) = site.runs(computer)
    assert (execution["state"], execution["error"]) == ("done", "")
    assert {each["attempts"] for each in site.steps(computer).values()} == {1}
    for number, name in enumerate(("data", "system"), 2):
        assert_same(files_of(disk, number, tmp_path / name), site.home / "tree")
    copies = files_of(disk, 1, tmp_path / "content")
    assert not list(copies.iterdir())  # they were dropped, and no part of one is left


CUT = f"""{DISK}
[[step]]
name = "Receive"
do = "join_multicast"
package = "{SMALL}"
volume = "content"
condition = {{ variable = "Cut", equals = "Receive" }}
[[step]]
name = "Apply"
do = "apply_os_image"
package = "{SMALL}"
volume = "system"
multicast = true
content_volume = "content"
[[step]]
name = "Hold"
do = "run_command_line"
command = "sleep 3600"
condition = {{ variable = "Cut", equals = "Hold" }}
"""
CUTS = (
    ("Receive", "by multicast"),
    ("Apply", "applied"),
    ("Hold", ""),
)  # of its power: in which step, and what it says


def test_a_machine_whose_power_is_cut_again_and_again_is_deployed(site: Site, tmp_path: Path) -> None:
    """While it receives, while it applies what arrives, and behind that; then the point is killed before the machine has asked it."""
    computer, mac = "PC-042", "52:54:00:d9:d0:42"
    site.deploy(computer, mac, CUT)
    disk = empty_disk(tmp_path, size_bytes=SMALL_DISK_BYTES)
    site.slow_down("multicast")
    for number, (step, saying) in enumerate(CUTS, 1):
        site.daemon.tell("computer", "variable", "set", computer, "Cut", step)
        if step == "Hold":
            site.speed_up()
        with Guest.bios(site.lan, mac, disk=disk):
            site.wait_in(computer, step, saying, number)
        newest = site.runs(computer)[0]
        assert (newest["state"], site.steps(computer)[step]["state"]) == ("running", "running")
    site.daemon.tell("computer", "variable", "remove", computer, "Cut")
    with Guest.bios(site.lan, mac, disk=disk, restarts=True) as guest:
        reach(guest, "dpd: deployment environment")
        site.daemon.kill()
        reach(guest, "dpd: waiting: ")
        site.daemon.restart()
        reach(guest, "boots over the network again")  # nobody knows this boot's ticket any more
        reach(guest, "dpd: done")
    done, *cut = site.runs(computer)
    assert (done["state"], done["error"]) == ("done", "")
    assert [each["state"] for each in cut] == ["lost"] * len(CUTS)
    assert [each["error"] for each in cut] == ["PC-042 began anew"] * len(CUTS)
    assert all("dpd deploy history PC-042" in each["next_step"] for each in cut)
    assert json.loads(site.daemon.tell("pxe", "why", mac, "--json"))["cause"] == "fine"
    assert_same(files_of(disk, 3, tmp_path / "system"), site.home / "tree")


TROUBLES = {  # by the step's name: what the machine says, and what the site adds to try
    "Away": ("is dpd running there", "Look at the way from the machine to this distribution point"),
    "Deaf": (
        "no multicast arrived for 3 s, and fall_back is false",
        "`dpd mc-test` tells whether multicast gets through",
    ),
    "Too much": ("has 512.0 MiB, the partitions need at least 40.0 GiB", "a machine with a larger disk"),
    "Damaged": (f"{DAMAGED} is not what its manifest says", f"`dpd content verify {DAMAGED}` tells"),
    "Foreign": ("image 1 is for arm64, this machine is x64", "Deploy the image of this machine's architecture"),
    "Little": ("image 1 has 40.0 MiB, volume 'little' has room for", "Give the volume more room in partition_disk"),
}
TROUBLED = f"""
[[step]]
name = "Disk"
do = "partition_disk"
partitions = [
  {{ name = "content", size = "50%", format = "ext4" }},
  {{ name = "windows", size = "100MiB", format = "ntfs" }},
  {{ name = "little", size = "32MiB", format = "ext4" }},
]
[[step]]
name = "Away"
do = "join_multicast"
package = "{SMALL}"
volume = "content"
patience_s = 10
continue_on_error = true
[[step]]
name = "Deaf"
do = "join_multicast"
package = "{SMALL}"
volume = "content"
fall_back = false
continue_on_error = true
[[step]]
name = "Too much"
do = "partition_disk"
continue_on_error = true
partitions = [{{ name = "huge", size = "40GiB", format = "ext4" }}]
[[step]]
name = "Damaged"
do = "apply_data_image"
package = "{DAMAGED}"
volume = "little"
multicast = true
content_volume = "content"
continue_on_error = true
[[step]]
name = "Foreign"
do = "apply_os_image"
package = "{FOREIGN}"
volume = "windows"
continue_on_error = true
[[step]]
name = "Little"
do = "apply_data_image"
package = "{SMALL}"
volume = "little"
[[step]]
name = "Loader"
do = "install_boot_loader"
volume = "windows"
"""
FAILED_STEPS = {"join_multicast": 2, "partition_disk": 1, "apply_data_image": 2, "apply_os_image": 1}


def test_what_cannot_be_done_is_told_by_machine_and_site_with_what_to_try(site: Site, tmp_path: Path) -> None:
    """All failures but the last are allowed to the sequence, so that one machine shows them all."""
    computer, mac = "PC-043", "52:54:00:d9:d0:43"
    publish_damaged(site, tmp_path)
    publish_foreign(site, tmp_path)
    site.deploy(computer, mac, TROUBLED)
    disk = empty_disk(tmp_path, size_bytes=SMALL_DISK_BYTES)
    with Guest.bios(site.lan, mac, disk=disk) as guest:
        with deaf(site.lan, guest.tap):
            reach(guest, "dpd: deployment environment")
            site.slow_down("all")
            site.wait_in(computer, "Away")
            site.daemon.kill()
            reach(guest, "step 3 of 8: Deaf")
            site.lan.send_unlimited("dpd")
            site.daemon.restart()
            reach(guest, "step 4 of 8: Too much")
        guest.wait_for(f"{HAS_FAILED} (status 1)", LIMIT_S)
        console = guest.console
    steps = site.steps(computer)
    told = {each["step_name"]: each for each in site.daemon.events("deployment.step failed", computer=computer)}
    log = str(json.loads(site.daemon.tell("deploy", "log", computer, "--json"))["text"])
    for name, (words, advice) in TROUBLES.items():
        assert steps[name]["state"] == "failed"
        assert words in steps[name]["message"]
        assert words in told[name]["error"]
        assert advice in told[name]["next_step"]
        assert words in console
        assert words in log
    (execution,) = site.runs(computer)
    assert (execution["state"], execution["step_name"]) == ("failed", "Little")
    assert TROUBLES["Little"][1] in execution["next_step"]
    assert steps["Loader"]["state"] == "waiting"
    watched = json.loads(site.watch(computer))
    assert (watched["state"], watched["next_step"]) == ("failed", execution["next_step"])
    assert site.daemon.metric('dpd_deployment_ended_total{outcome="failed"}') == 1
    for kind, count in FAILED_STEPS.items():
        assert site.daemon.metric(f'dpd_deployment_steps_failed_total{{kind="{kind}"}}') == count
    assert_nothing_unverified(disk, tmp_path)


def publish_damaged(site: Site, folder: Path) -> None:
    """Bytes of its second slab turn into others in the library."""
    tree(folder / "damaged", files=1)
    wim = capture(folder / "damaged", folder / "damaged.wim")
    site.daemon.tell("content", "publish", wim, "--package", DAMAGED)
    content = wim.read_bytes()
    blobs = [each for each in site.daemon.state.rglob("*") if each.is_file() and each.stat().st_size == len(content)]
    (blob,) = [each for each in blobs if each.read_bytes() == content]
    with blob.open("r+b") as file:
        file.seek(SLAB_BYTES + MIB)
        file.write(b"damaged")


def publish_foreign(site: Site, folder: Path) -> None:
    wim = capture(site.home / "tree/etc", folder / "foreign.wim")
    run("wimlib-imagex", "info", wim, "1", "--image-property", "WINDOWS/ARCH=12")
    site.daemon.tell("content", "publish", wim, "--package", FOREIGN)


def assert_nothing_unverified(disk: Path, folder: Path) -> None:
    """Of the damaged content nothing is under its name, and at most the slab that is whole was written; nothing was applied."""
    kept = files_of(disk, 1, folder / "kept") / ".dpd-content"
    names = {each.name for each in kept.iterdir()}
    assert names == {f"{package}-1.wim.{kind}" for package in (DAMAGED, SMALL) for kind in ("journal", "part")}
    journal = (kept / f"{DAMAGED}-1.wim.journal").read_text().splitlines()
    assert {line for line in journal if line.startswith("v ")} <= {"v 0"}  # HTTP begins with the other one
    part = (kept / f"{DAMAGED}-1.wim.part").read_bytes()
    assert part[:SLAB_BYTES] in ((folder / "damaged.wim").read_bytes()[:SLAB_BYTES], bytes(SLAB_BYTES))
    assert not any(part[SLAB_BYTES:])
    assert not list(files_of(disk, 3, folder / "little").iterdir())


def test_a_machine_that_finds_the_point_gone_says_so(site: Site) -> None:
    computer, mac = "PC-044", "52:54:00:d9:d0:44"
    files = site.daemon.state / "boot-images" / IMAGE / "1/files"
    words = ("--kernel", files / "vmlinuz", "--initrd", files / "initrd.img", "--cmdline", IMPATIENT_LINE)
    site.daemon.tell("boot-image", "add", "--id", IMPATIENT, *words)
    step = '[[step]]\nname = "Nothing"\ndo = "run_command_line"\ncommand = "true"\n'
    site.deploy(computer, mac, step, IMPATIENT)
    with Guest.bios(site.lan, mac) as guest:
        guest.wait_for("dpd: deployment environment", LIMIT_S)
        site.daemon.kill()
        guest.wait_for(f"{HAS_FAILED} (status 4)", LIMIT_S)
        assert "Connection refused; is dpd running there, and is the port open?" in guest.console
    site.daemon.restart()
    assert site.daemon.events("boot.finished", computer=computer)
    assert not site.runs(computer)
