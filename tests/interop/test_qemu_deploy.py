# SPDX-License-Identifier: Apache-2.0
"""From power-on to a running operating system: a machine with an empty disk boots over the network beside dnsmasq, runs the
task sequence that dpd brings along for Debian, and starts from its disk to the login prompt with the host name that it was to get.

Each has 512 MB of memory. The environment is the one that `dpd boot-image build` makes of Debian's packages.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop import debian_system
from tests.interop.daemon import DPD, Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU, Guest
from tests.interop.lease_server import start_dnsmasq, start_router
from tests.interop.linux import IPXE_EFI, cache_directory

pytestmark = pytest.mark.qemu

LIMIT_S = 900.0
DISK_BYTES = 7 << 30  # a sparse file
MAC = "52:54:00:d9:d0:31"
IMAGE = "LAB00010"
SEQUENCE = Path(__file__).parents[2] / "config/sequences/debian.toml"
ON_SERIAL_LINE = 'do = "install_boot_loader"\n  options = "console=ttyS0"'
SETTINGS = """
[pxe]
unknown_computers = "pending"
[boot]
directory = "{boot}"
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    need(QEMU, "dnsmasq", "mmdebstrap", "wimlib-imagex", "zstd", IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES)
    lan = make_lan("lease", "dpd", ipv6=True)
    start_dnsmasq(lan["lease"], tmp_path)
    start_router(lan["lease"], "eth0", "fd77::")
    return lan


@pytest.fixture
def debian() -> Path:
    try:
        return debian_system.debian_wim()
    except debian_system.SystemMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def dpd(lan: Lan, debian: Path, tmp_path: Path) -> Iterator[Daemon]:
    """`dpd serve` with the environment, the image and the task sequence, all of it by commands."""
    boot = tmp_path / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    sequence = tmp_path / "debian.toml"
    sequence.write_text(SEQUENCE.read_text("utf-8").replace('do = "install_boot_loader"', ON_SERIAL_LINE), "utf-8")
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as daemon:
        build_environment(tmp_path)
        daemon.tell("content", "publish", debian, "--package", "LAB00001")
        daemon.tell("sequence", "publish", sequence)
        yield daemon


def build_environment(folder: Path) -> None:
    """Outside of the test's LAN, where Debian's mirror is; the daemon is reached by its socket from there too."""
    words = (
        "--id",
        IMAGE,
        "--quickly",
        "--cmdline",
        "console=ttyS0 dpd.failed=wait",
        "--cache",
        cache_directory() / "packages",
    )
    command = [DPD, "boot-image", "build", *words, "--socket", folder / "control.sock"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    return path


def deployed(dpd: Daemon) -> str:
    """The machine that was, when the site heard that it is done."""
    (execution,) = json.loads(dpd.tell("deploy", "list", "--json"))["executions"]
    assert (execution["state"], execution["error"]) == ("done", "")
    return str(execution["computer"])


def test_a_known_uefi_machine_is_deployed_and_starts_from_its_disk(
    lan: Lan, dpd: Daemon, disk: Path, tmp_path: Path
) -> None:
    dpd.tell("computer", "add", "PC-031", "--mac", MAC)
    dpd.tell("computer", "variable", "set", "PC-031", "OSDComputerName", "lab-031")
    dpd.tell("deployment", "add", "--computer", "PC-031", "--boot-image", IMAGE, "--sequence", "debian", "--required")
    with Guest.uefi(lan, MAC, tmp_path, disk=disk) as guest:
        guest.wait_for("dpd: target starts", LIMIT_S)
        guest.wait_for("lab-031 is installed", LIMIT_S)
        guest.wait_for_end(LIMIT_S)
    assert deployed(dpd) == "PC-031"
    with Guest.uefi(lan, MAC, tmp_path, disk=disk, disk_first=True) as guest:
        guest.wait_for("lab-031 login:", LIMIT_S)


def test_an_unknown_bios_machine_is_deployed_after_approval_and_sent_to_its_disk(
    lan: Lan, dpd: Daemon, disk: Path
) -> None:
    """Its firmware tries the network first, so that dpd has to send it on."""
    dpd.tell(
        "deployment", "add", "--all", "--boot-image", IMAGE, "--sequence", "debian", "--required", "--confirm", "0"
    )
    with Guest.bios(lan, MAC, disk=disk, restarts=True) as guest:
        guest.wait_for("Ask for its approval", LIMIT_S)
        (machine,) = json.loads(dpd.tell("pxe", "pending", "--json"))["pending"]
        dpd.tell("pxe", "approve", machine["code"], "--computer", "PC-032")
        guest.wait_for("PC-032 is installed", LIMIT_S)
        guest.wait_for("PC-032 login:", LIMIT_S)
    assert deployed(dpd) == "PC-032"
