# SPDX-License-Identifier: Apache-2.0
"""From power-on to a running operating system: machines with empty disks boot over the network beside dnsmasq, run the task
sequence that dpd brings along for Debian, and start from their disks to the login prompt with the host names that they were to get.

Each has 512 MB of memory. The environment is the one that `dpd boot-image build` makes of Debian's packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.deploying_guests import (
    IMAGE,
    LIMIT_S,
    PACKAGE,
    Stock,
    empty_disk,
    lan_beside_dnsmasq,
    wait_until_done,
)
from tests.interop.guest import Guest

pytestmark = pytest.mark.qemu

UEFI_MAC, BIOS_MAC = "52:54:00:d9:d0:31", "52:54:00:d9:d0:32"
TOGETHER = """
[multicast]
minimum_clients = 2
"""


@pytest.fixture
def lan(stock: Stock, tmp_path: Path) -> Iterator[Lan]:
    with lan_beside_dnsmasq(tmp_path) as lan:
        yield lan


@pytest.fixture
def dpd(stock: Stock, lan: Lan, tmp_path: Path) -> Iterator[Daemon]:
    with stock.serve(tmp_path, "dpd", lan, TOGETHER) as daemon:
        yield daemon


def test_a_known_uefi_machine_and_an_unknown_bios_machine_are_deployed_in_one_multicast_session(
    lan: Lan, dpd: Daemon, tmp_path: Path
) -> None:
    """The known one restarts from its disk; the other tries the network first, so that dpd has to send it on."""
    dpd.tell("computer", "add", "PC-031", "--mac", UEFI_MAC)
    dpd.tell("computer", "variable", "set", "PC-031", "OSDComputerName", "lab-031")
    dpd.tell(
        "deployment", "add", "--all", "--boot-image", IMAGE, "--sequence", "debian", "--required", "--confirm", "1"
    )
    first, second = empty_disk(tmp_path, "uefi.img"), empty_disk(tmp_path, "bios.img")
    with (
        Guest.uefi(lan, UEFI_MAC, tmp_path, disk=first) as uefi,
        Guest.bios(lan, BIOS_MAC, disk=second, restarts=True) as bios,
    ):
        bios.wait_for("Ask for its approval", LIMIT_S)
        (machine,) = json.loads(dpd.tell("pxe", "pending", "--json"))["pending"]
        dpd.tell("pxe", "approve", machine["code"], "--computer", "PC-032")
        uefi.wait_for("lab-031 is installed", LIMIT_S)
        bios.wait_for("PC-032 is installed", LIMIT_S)
        for computer in ("PC-031", "PC-032"):
            print(wait_until_done(dpd, computer))
        print(dpd.tell("session", "list", "--json"))
        uefi.wait_for_end(LIMIT_S)
        with Guest.uefi(lan, UEFI_MAC, tmp_path, disk=first, disk_first=True) as restarted:
            restarted.wait_for("lab-031 login:", LIMIT_S)
        bios.wait_for("PC-032 login:", LIMIT_S)
