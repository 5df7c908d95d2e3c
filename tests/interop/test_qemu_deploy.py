# SPDX-License-Identifier: Apache-2.0
"""From power-on to a running operating system: machines with empty disks boot over the network beside dnsmasq, run the task
sequence that dpd brings along for Debian, and start from their disks to the login prompt with the host names that they were to get.
Then one of them is captured, and the capture is deployed to a third one.

Each has 512 MB of memory. The environment is the one that `dpd boot-image build` makes of Debian's packages. The tests need what
those before them left; pytest makes it where one runs alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.deploying_guests import (
    IMAGE,
    LIMIT_S,
    PACKAGE,
    Stock,
    debian_sequence,
    empty_disk,
    lan_beside_dnsmasq,
    wait_for,
    wait_until_done,
)
from tests.interop.guest import Guest
from tests.target import ntfs_volume
from tests.target.stage import attached

pytestmark = pytest.mark.qemu

UEFI_MAC, BIOS_MAC, THIRD_MAC = (f"52:54:00:d9:d0:3{number}" for number in (1, 2, 3))
CAPTURE, NTFS = "CAP00001", "NTF00001"
CAPTURE_SEQUENCE = Path(__file__).parents[2] / "config/sequences/capture.toml"
PATIENT = """
[multicast]
rate_mbit_s = 16.0
member_timeout_s = 60
floor_kib_s = 0
"""  # a machine in QEMU takes no more, and what it loses it has to compute; it may stand still, and is not to go on by HTTP
SECOND_DISK = f"""
[[step]]
name = "Prepare the second disk"
do = "partition_disk"
disk = "/dev/vdb"
partitions = [
  {{ name = "nt", size = "512MiB", kind = "data", format = "ntfs" }},
  {{ name = "content", size = "rest", kind = "data", format = "ext4" }},
]

[[step]]
name = "Apply the NTFS image"
do = "apply_os_image"
package = "{NTFS}"
volume = "nt"

[[step]]
name = "Capture"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def lan(stock: Stock, home: Path) -> Iterator[Lan]:
    with lan_beside_dnsmasq(home) as lan:
        yield lan


@pytest.fixture(scope="module")
def dpd(stock: Stock, lan: Lan, home: Path) -> Iterator[Daemon]:
    with stock.serve(home, "dpd", lan, PATIENT) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def deployed(lan: Lan, dpd: Daemon, home: Path) -> None:
    """Two machines have received the image, started from their disks and were switched off: one by UEFI that is known, whose disk
    is uefi.img, and one by BIOS that is not, and tries the network first, so that dpd has to send it on."""
    dpd.tell("computer", "add", "PC-031", "--mac", UEFI_MAC)
    dpd.tell("computer", "variable", "set", "PC-031", "OSDComputerName", "lab-031")
    dpd.tell("session", "start", PACKAGE, "--minimum-clients", "2")
    dpd.tell(
        "deployment", "add", "--all", "--boot-image", IMAGE, "--sequence", "debian", "--required", "--confirm", "1"
    )
    disk = empty_disk(home, "uefi.img")
    with (
        Guest.uefi(lan, UEFI_MAC, home, disk=disk) as uefi,
        Guest.bios(lan, BIOS_MAC, disk=empty_disk(home, "bios.img"), restarts=True) as bios,
    ):
        bios.wait_for("Ask for its approval", LIMIT_S)
        (machine,) = json.loads(dpd.tell("pxe", "pending", "--json"))["pending"]
        dpd.tell("pxe", "approve", machine["code"], "--computer", "PC-032")
        wait_for(lambda: len(peers(dpd.events("receiver joined"))) == 2 or None, "both machines to join")
        dpd.tell("session", "start", PACKAGE, "--minimum-clients", "1")  # who loses its place does not wait for another
        uefi.wait_for("lab-031 is installed", LIMIT_S)
        uefi.wait_for_end(LIMIT_S)
        with Guest.uefi(lan, UEFI_MAC, home, disk=disk, disk_first=True) as restarted:
            restarted.wait_for("lab-031 login:", LIMIT_S)
        bios.wait_for("PC-032 login:", LIMIT_S)
    dpd.tell("deployment", "remove", "1")


def peers(receivers: list[dict[str, Any]]) -> set[str]:
    return {str(each["peer"]) for each in receivers}


def test_a_known_uefi_machine_and_an_unknown_bios_machine_are_deployed_in_one_multicast_session(
    dpd: Daemon, deployed: None
) -> None:
    for computer in ("PC-031", "PC-032"):
        assert wait_until_done(dpd, computer, limit_s=60)["error"] == ""
        assert "while it arrived" in dpd.tell("deploy", "show", computer, "--json")  # the environment has FUSE
    received = dpd.events("receiver completed", package=PACKAGE)
    assert len(peers(received)) == 2, received
    assert len({each["session"] for each in received}) == 1, received
    for each in received:
        assert each["bytes_first_sent"] + each["bytes_repair"] > each["bytes_unicast"], each


@pytest.fixture(scope="module")
def captured(lan: Lan, dpd: Daemon, home: Path, deployed: None) -> Path:
    """The second disk of the UEFI machine, which was booted over the network once more and captured: to that disk an NTFS image
    was applied, and it had room for the capture."""
    dpd.tell("content", "publish", ntfs_volume.capture_volume(home / "nt"), "--package", NTFS)
    text = CAPTURE_SEQUENCE.read_text("utf-8").replace('[[step]]\nname = "Capture"\n', SECOND_DISK)
    text = text.replace("image_name", 'compression = "xpress"\nimage_name').replace(
        '"restart"', '"restart"\nto = "network"'
    )
    (home / "capture.toml").write_text(text, "utf-8")
    dpd.tell("sequence", "publish", home / "capture.toml")
    dpd.tell("computer", "variable", "set", "PC-031", "CaptureVolume", "/dev/vda3")
    dpd.tell("deployment", "add", "--computer", "PC-031", "--boot-image", IMAGE, "--sequence", "capture", "--required")
    second = empty_disk(home, "second.img", 2 << 30)
    with Guest.uefi(lan, UEFI_MAC, home, disk=home / "uefi.img", second_disk=second) as guest:
        guest.wait_for("restarts", LIMIT_S)
        guest.wait_for_end(LIMIT_S)
    assert wait_until_done(dpd, "PC-031", limit_s=60)["sequence"] == "capture"
    return second


def test_an_ntfs_image_is_applied_to_a_machine_s_disk_with_all_that_only_ntfs_has(captured: Path, home: Path) -> None:
    """Captured back from that disk: the same blobs, the same metadata. A file of more than 4 GiB is in tests/target."""
    with attached(captured, 1) as volume:
        back = ntfs_volume.capture_back(volume, home / "back.wim")
    assert ntfs_volume.described(back) == ntfs_volume.described(home / "nt/nt.wim")


def test_the_capture_of_a_deployed_machine_is_deployed_to_another(
    lan: Lan, dpd: Daemon, home: Path, captured: Path
) -> None:
    """From one with UEFI to one with BIOS; whose name it then has is its own."""
    (home / "again.toml").write_text(debian_sequence("again", CAPTURE), "utf-8")
    dpd.tell("sequence", "publish", home / "again.toml")
    dpd.tell("computer", "add", "PC-033", "--mac", THIRD_MAC)
    dpd.tell("deployment", "add", "--computer", "PC-033", "--boot-image", IMAGE, "--sequence", "again", "--required")
    with Guest.bios(lan, THIRD_MAC, disk=empty_disk(home, "third.img"), restarts=True) as guest:
        guest.wait_for("PC-033 is installed", LIMIT_S)
        guest.wait_for("PC-033 login:", LIMIT_S)
    assert wait_until_done(dpd, "PC-033", limit_s=60)["sequence"] == "again"
