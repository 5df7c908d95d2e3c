# SPDX-License-Identifier: Apache-2.0
"""What deployments to machines in QEMU share: a LAN beside dnsmasq, and a distribution point that has everything.

The deployment environment knows the key that signs at its point. So a point is made once in a pytest session, with its key,
the environment of `dpd boot-image build`, a Debian and the sequence for it, all by commands; each test serves a copy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from bench.netns import Lan, missing
from cryptography.hazmat.primitives.serialization import Encoding
from tests.interop import debian_system
from tests.interop.daemon import DPD, Daemon
from tests.interop.guest import IPXE_ROM, OVMF_CODE, OVMF_VARIABLES, QEMU
from tests.interop.lease_server import start_dnsmasq, start_router
from tests.interop.linux import IPXE_EFI, cache_directory
from tests.interop.tls_authority import TlsAuthority

Found = TypeVar("Found")

LIMIT_S = 900.0  # of whatever a machine does
DISK_BYTES = 7 << 30
IMAGE = "LAB00010"  # the environment
PACKAGE = "LAB00001"  # the Debian
SEQUENCE = Path(__file__).parents[2] / "config/sequences/debian.toml"
ON_SERIAL_LINE = 'do = "install_boot_loader"\n  options = "console=ttyS0"'
COMMAND_LINE = "console=ttyS0 dpd.failed=wait"
PROGRAMS: tuple[str | Path, ...] = (
    *(QEMU, "dnsmasq", "mmdebstrap", "wimlib-imagex", "zstd"),
    *(IPXE_ROM, IPXE_EFI, OVMF_CODE, OVMF_VARIABLES),
)
SETTINGS = """
[pxe]
unknown_computers = "pending"
[boot]
directory = "{boot}"
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """`state` is that of a point which has stopped: environment IMAGE, package PACKAGE, sequence "debian". The environment
    trusts `authority` where a point has TLS."""

    state: Path
    authority: TlsAuthority

    def serve(self, directory: Path, host: str, lan: Lan, settings: str = "") -> Daemon:
        """A copy of it for `with`: `settings` are further tables, or keys of [boot]."""
        shutil.copytree(self.state, directory / "state", symlinks=True)
        return serving(directory, host, lan, settings)


def serving(directory: Path, host: str, lan: Lan, settings: str = "") -> Daemon:
    """A point for `with`: unknown machines wait for approval, iPXE is handed out."""
    boot = directory / "boot"
    boot.mkdir()
    shutil.copy(IPXE_EFI, boot / "ipxe.efi")
    return Daemon(directory, SETTINGS.format(boot=boot) + settings, lan[host])


@contextmanager
def lan_beside_dnsmasq(directory: Path, *more: str) -> Iterator[Lan]:
    """Hosts `lease`, `dpd` and more; dnsmasq leases addresses and knows nothing of booting."""
    with Lan("lease", "dpd", *more, ipv6=True) as lan:
        start_dnsmasq(lan["lease"], directory)
        start_router(lan["lease"], "eth0", "fd77::")
        yield lan


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Skips by the name of what is missing."""
    absent = missing() + [
        str(each) for each in PROGRAMS if not (each.is_file() if isinstance(each, Path) else shutil.which(each))
    ]
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    try:
        debian = debian_system.debian_wim()
    except debian_system.SystemMissing as error:
        pytest.skip(str(error))
    home, authority = tmp_path_factory.mktemp("stock"), TlsAuthority()
    sequence = home / "debian.toml"
    sequence.write_text(debian_sequence(), "utf-8")
    with Lan("dpd") as lan, serving(home, "dpd", lan) as daemon:
        build_environment(daemon, authority, IMAGE)
        daemon.tell("content", "publish", debian, "--package", PACKAGE)
        daemon.tell("sequence", "publish", sequence)
    return Stock(home / "state", authority)


def debian_sequence(name: str = "debian", package: str = PACKAGE) -> str:
    """The one that dpd brings along; the system that it installs talks on the serial line."""
    text = SEQUENCE.read_text("utf-8").replace('do = "install_boot_loader"', ON_SERIAL_LINE)
    return text.replace('name = "debian"', f'name = "{name}"').replace(f'"{PACKAGE}"', f'"{package}"')


def build_environment(daemon: Daemon, authority: TlsAuthority, image_id: str, *words: str | Path) -> None:
    """Outside of the test's LAN, where Debian's mirror is; the daemon is reached by its socket from there too."""
    authorities = daemon.socket.with_name("authorities.pem")
    authorities.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    command: list[str | Path] = [
        *(DPD, "boot-image", "build", "--id", image_id, "--quickly", "--cmdline", COMMAND_LINE),
        *("--ca-file", authorities, "--cache", cache_directory() / "packages", "--socket", daemon.socket, *words),
    ]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ran.returncode == 0, ran.stderr


def empty_disk(directory: Path, name: str = "disk.img", size_bytes: int = DISK_BYTES) -> Path:
    """A sparse file."""
    path = directory / name
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def executions(dpd: Daemon) -> dict[str, dict[str, Any]]:
    """The newest run of each computer, as the operator sees it."""
    listed = json.loads(dpd.tell("deploy", "list", "--json"))["executions"]
    return {str(each["computer"]): each for each in reversed(listed)}


def wait_until_done(dpd: Daemon, computer: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """The computer's newest run, when the site has heard that it is done. Raises AssertionError where it failed."""
    heard = -1

    def look() -> dict[str, Any] | None:
        nonlocal heard
        before, heard = heard, dpd.text().count('"message": "deployment.')
        return (
            _done(dpd, computer) if heard != before else None
        )  # a command for each look would take what the machine needs

    return wait_for(look, f"{computer} to be deployed", limit_s)


def _done(dpd: Daemon, computer: str) -> dict[str, Any] | None:
    run = executions(dpd).get(computer, {})
    assert run.get("state") not in ("failed", "cancelled"), f"{run}\n{dpd.tell('deploy', 'log', run['id'])}"
    return run if run.get("state") == "done" else None


def wait_for(look: Callable[[], Found | None], what: str, limit_s: float = LIMIT_S) -> Found:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + limit_s
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.5)
    return found
