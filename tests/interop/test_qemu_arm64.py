# SPDX-License-Identifier: Apache-2.0
"""A 64-bit ARM machine is deployed by `dpd serve`: AAVMF's PXE client, Debian's GRUB for arm64, the environment of `dpd boot-image
build --arch arm64` with its packed kernel, and a task sequence that is done.

All of it takes 60 s of processor: 20 to build the environment, 40 for the machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.debian import PackageMissing, foreign_file
from tests.interop.deploying_guests import IMAGE, LIMIT_S, build_environment, wait_until_done
from tests.interop.guest import AAVMF_CODE, AAVMF_VARIABLES, QEMU_ARM64, Guest
from tests.interop.lease_server import start_dnsmasq
from tests.interop.tls_authority import TlsAuthority

pytestmark = pytest.mark.qemu

MAC = "52:54:00:d9:d0:07"
LIMIT_BYTES = 46_000_000  # built quickly; 35 where it is packed well
GRUB = "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"
OPTIONS = ("--arch", "arm64", "--pack-kernel", "--cmdline", "console=ttyAMA0 dpd.failed=wait")
SETTINGS = """
[boot]
directory = "{boot}"
[[pxe.rule]]
name = "uefi-arm64"
client_class = "PXEClient"
client_arch = [11]
loader = "grubaa64.efi"
"""
SEQUENCE = """
name = "check"
architectures = ["arm64"]
[[step]]
name = "Which machine"
do = "run_command_line"
command = "echo step runs on $(uname -m) >/dev/console"
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    """Its lease server names dpd as next-server, which Debian's signed GRUB needs."""
    need(QEMU_ARM64, "dnsmasq", "apt-get", "dpkg-deb", "zstd", AAVMF_CODE, AAVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path, f"--dhcp-boot=,,{lan['dpd'].address}")
    return lan


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """A boot directory with GRUB alone: what it is to do, dpd makes for each machine."""
    try:
        grub = foreign_file("grub-efi-arm64-signed", GRUB, "arm64")
    except PackageMissing as error:
        pytest.skip(f"missing: grub-efi-arm64-signed: {error}")
    boot = tmp_path / "boot"
    boot.mkdir()
    shutil.copy(grub, boot / "grubaa64.efi")
    return boot


def test_an_arm64_machine_boots_the_environment_by_grub_and_its_sequence_is_done(
    lan: Lan, boot: Path, tmp_path: Path
) -> None:
    (tmp_path / "check.toml").write_text(SEQUENCE, "utf-8")
    with Daemon(tmp_path, SETTINGS.format(boot=boot), lan["dpd"]) as dpd:
        build_environment(dpd, TlsAuthority(), IMAGE, *OPTIONS)
        assert json.loads(dpd.tell("boot-image", "show", IMAGE, "--json"))["size_bytes"] <= LIMIT_BYTES
        dpd.tell("sequence", "publish", tmp_path / "check.toml")
        dpd.tell("computer", "add", "PC-007", "--mac", MAC)
        required = ("--boot-image", IMAGE, "--sequence", "check", "--required")
        dpd.tell("deployment", "add", "--computer", "PC-007", *required)
        with Guest.arm64(lan, MAC, tmp_path) as guest:
            guest.wait_for("dpd: target starts", LIMIT_S)
            guest.wait_for("step runs on aarch64", LIMIT_S)
            guest.wait_for_end(LIMIT_S)
        wait_until_done(dpd, "PC-007")
        answered = {"mac": MAC, "client_arch": "uefi-arm64", "loader": "grubaa64.efi"}
        assert dpd.events("boot client answered", **answered)
        for file in ("grubaa64.efi", "grub.cfg", "vmlinuz", "initrd.img"):
            assert dpd.events("tftp transfer", file=file, verdict="completed"), file
