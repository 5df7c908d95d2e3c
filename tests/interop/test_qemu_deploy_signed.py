# SPDX-License-Identifier: Apache-2.0
"""A machine with Secure Boot on is deployed: shim, Debian's signed GRUB and kernel, all by the network, and a configuration that dpd
makes for this machine alone, by which its environment finds its task sequence. The point has TLS by an authority of its own, and
a secret for the machine.

Debian's signed GRUB takes the server from the lease, so the lease server names dpd.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon
from tests.interop.deploying_guests import IMAGE, LIMIT_S, Stock, wait_until_done
from tests.interop.guest import SECURE_OVMF_CODE, SECURE_OVMF_VARIABLES, Guest
from tests.interop.lease_server import start_dnsmasq

pytestmark = pytest.mark.qemu

SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
MAC = "52:54:00:d9:d0:51"
SECRET = "tr0ub4dor-and-3"
MASK = "••••"
SETTINGS = """
[http]
certificate = "{certificate}"
private_key = "{private_key}"
[[pxe.rule]]
name = "secure-x64"
client_class = "PXEClient"
client_arch = [7, 9]
loader = "shimx64.efi"
"""
SEQUENCE = f"""
name = "check"
[[step]]
name = "Secure Boot is on"
do = "run_script"
script = '''
[ $(od -An -tu1 -j4 -N1 /sys/firmware/efi/efivars/SecureBoot-*) = 1 ]
echo "the kernel was told BOOTIF=$(sed 's/.*BOOTIF=//; s/ .*//' /proc/cmdline)"
'''
[[step]]
name = "The secret is here"
do = "run_script"
script = '''
[ $(printf %s "$Password" | sha256sum | cut -c-64) = {hashlib.sha256(SECRET.encode()).hexdigest()} ]
echo "this shows $Password"
'''
[[step]]
name = "Show the log"
do = "run_script"
script = 'cat /run/dpd/log >/dev/console'
"""


@pytest.fixture
def lan(make_lan: Callable[..., Lan], need: Callable[..., None], tmp_path: Path) -> Lan:
    need("dnsmasq", SHIM, GRUB, SECURE_OVMF_CODE, SECURE_OVMF_VARIABLES)
    lan = make_lan("lease", "dpd")
    start_dnsmasq(lan["lease"], tmp_path, f"--dhcp-boot=,,{lan['dpd'].address}")
    return lan


@pytest.fixture
def dpd(lan: Lan, stock: Stock, tmp_path: Path) -> Iterator[Daemon]:
    certificate, private_key = stock.authority.issue(tmp_path, lan["dpd"].address)
    settings = SETTINGS.format(certificate=certificate, private_key=private_key)
    served = stock.serve(tmp_path, "dpd", lan, settings)
    shutil.copy(SHIM, tmp_path / "boot/shimx64.efi")
    shutil.copy(GRUB, tmp_path / "boot/grubx64.efi")
    with served as daemon:
        yield daemon


def test_an_unknown_machine_with_secure_boot_is_approved_and_takes_its_sequence_and_its_secret_over_tls(
    lan: Lan, dpd: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "check.toml").write_text(SEQUENCE, "utf-8")
    dpd.tell("sequence", "publish", tmp_path / "check.toml")
    dpd.tell("collection", "variable", "set", "all", "Password", SECRET, "--secret")
    required = ("--sequence", "check", "--required", "--confirm", "0")
    dpd.tell("deployment", "add", "--all", "--boot-image", IMAGE, *required)
    with Guest.secure_uefi(lan, MAC, tmp_path) as guest:
        guest.wait_for("Welcome to GRUB!", LIMIT_S)
        guest.wait_for(MAC, LIMIT_S)  # behind the code
        (machine,) = json.loads(dpd.tell("pxe", "pending", "--json"))["pending"]
        assert f"Code {machine['code']} {MAC}" in guest.console
        dpd.tell("pxe", "approve", machine["code"], "--computer", "PC-051")
        guest.wait_for("dpd: target starts", LIMIT_S)
        guest.wait_for_end(LIMIT_S)
    run = wait_until_done(dpd, "PC-051")
    assert f"the kernel was told BOOTIF=01-{MAC}" in guest.console
    assert f"this shows {MASK}" in guest.console
    assert f"says hello to https://{lan['dpd'].address}:8443" in guest.console
    shown = guest.console + dpd.text() + json.dumps(run) + dpd.tell("deploy", "show", run["id"], "--json")
    assert SECRET not in shown
    assert "dpd.proof" not in shown
    for file in ("shimx64.efi", "grubx64.efi"):
        assert dpd.events("tftp transfer", file=file, verdict="completed"), file
