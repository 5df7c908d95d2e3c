# SPDX-License-Identifier: Apache-2.0
"""The units as systemd judges them, and the daemon inside the walls that its unit puts up."""

from __future__ import annotations

import ctypes
import http.client
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.boot.wims import adk_tree, make_wim
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client
from dpd.settings import DaemonSettings

SYSTEMD = Path(__file__).parent.parent.parent / "systemd"
UNIT = SYSTEMD / "dpd.service"
UNITS = (UNIT, SYSTEMD / "dpd-site.service")
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # <linux/prctl.h>, Linux 6.3

pytestmark = pytest.mark.interop


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def settings_of(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_is_without_fault(unit: Path, tmp_path: Path) -> None:
    """The program need not be installed for this, so its path is that of one that is."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/dpd", sys.executable))
    run = subprocess.run([tool("systemd-analyze"), "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_exposure_is_low(unit: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(rf"Overall exposure level for {unit.name}: ([\d.]+)", run.stdout)
    assert found, run.stderr
    assert float(found[1]) <= 2.0
    assert run.returncode == 0


@pytest.mark.parametrize("name", ["querier", "watch"])
def test_what_a_raw_socket_needs_is_given_by_its_drop_in_alone(tmp_path: Path, name: str) -> None:
    """Both lists grow by one; the unit itself, whose exposure is looked at above, stays without."""
    drop_in = SYSTEMD / f"dpd-{name}.conf"
    assert "CAP_NET_RAW" not in UNIT.read_text()
    (tmp_path / "dpd.service").write_text(UNIT.read_text().replace("/usr/bin/dpd", sys.executable))
    (tmp_path / "dpd.service.d").mkdir()
    shutil.copy(drop_in, tmp_path / "dpd.service.d" / f"{name}.conf")
    unit = str(tmp_path / "dpd.service")
    run = subprocess.run([tool("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    command = [tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", unit]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level for dpd.service: ([\d.]+)", listing)
    assert found
    assert float(found[1]) <= 2.0
    assert settings_of(drop_in, "AmbientCapabilities") == ["CAP_NET_RAW"]
    assert settings_of(drop_in, "CapabilityBoundingSet") == ["CAP_NET_RAW"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_drain_of_the_defaults_fits_the_stop_timeout(unit: Path) -> None:
    (timeout_s,) = settings_of(unit, "TimeoutStopSec")
    assert float(timeout_s) >= DaemonSettings().drain_timeout_s + 30


def test_the_user_and_its_directories_are_made_as_the_files_say(tmp_path: Path) -> None:
    sysusers, tmpfiles = tool("systemd-sysusers"), tool("systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    subprocess.run([sysusers, f"--root={tmp_path}", SYSTEMD / "dpd.sysusers"], check=True, capture_output=True)
    passwd = (tmp_path / "etc" / "passwd").read_text()
    assert re.search(r"^dpd:.*:/var/lib/dpd:/usr/sbin/nologin$", passwd, re.MULTILINE)
    command = [tmpfiles, "--create", f"--root={tmp_path}", str(SYSTEMD / "dpd.tmpfiles")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    user, group = (int(field) for field in passwd.split("dpd:", 1)[1].split(":")[1:3])
    boot = (tmp_path / "var/lib/dpd/boot").stat()
    assert (boot.st_uid, boot.st_gid, boot.st_mode & 0o7777) == (user, group, 0o2775)


def test_the_daemon_works_where_memory_is_never_writable_and_executable(tmp_path: Path) -> None:
    """MemoryDenyWriteExecute= by the kernel's own means, since ctypes is the one thing here that might need more."""
    libc = ctypes.CDLL(None, use_errno=True)

    def deny() -> None:
        if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_MDWE")

    try:
        subprocess.run(["/bin/true"], preexec_fn=deny, check=True)
    except subprocess.SubprocessError:
        pytest.skip("the kernel has no PR_SET_MDWE (Linux 6.3)")
    with DaemonProcess(tmp_path, before_exec=deny).ready() as daemon:
        exercise(daemon)
    assert [line["codec"] for line in daemon.log if line["message"] == "multicast ready"] == ["isa-l"]


def test_every_system_call_of_the_daemon_passes_the_filter(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    allowed = filtered_calls()
    wrapper = [tool("strace"), "-D", "-f", "-qq", "-o", str(trace)]
    with DaemonProcess(tmp_path, wrapper=wrapper).ready() as daemon:
        exercise(daemon)
    text = trace.read_text()
    used = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"bind", "epoll_wait", "fallocate"} <= used
    refused = set(re.findall(r"^\d+ +(\w+)\(.*= -1 (?:ENOSYS|EPERM)", text, re.MULTILINE))
    assert used - allowed - refused == set()


def exercise(daemon: DaemonProcess) -> None:
    """What an ordinary day has: publish, verify, a boot image, a session, a download, a reload, the end."""
    client = Client(daemon.control_socket)
    image = daemon.state / "day.img"
    image.write_bytes(bytes(3 << 20))
    with image.open("rb") as file:
        size = image.stat().st_size
        *_, last = client.upload(
            file, "content", size_bytes=size, sent=lambda _: None, package_id="DAY", name=image.name
        )
    assert "content" in last
    *_, last = client.follow("content", "DAY", "verify")
    assert "content" in last
    wim = make_wim(daemon.state / "boot.wim", adk_tree())
    *_, last = client.follow("boot-images", body={"image_id": "DAY", "files": [str(wim)]})
    assert last["content"]["firmware"] == ["bios", "uefi-x64"]
    client.post("sessions", body={"package_id": "DAY"})
    ports = {service["name"]: service["ports"] for service in client.get("status")["services"]}
    connection = http.client.HTTPConnection("127.0.0.1", ports["http"]["http"], timeout=20)
    connection.request("GET", "/content/DAY")
    assert len(connection.getresponse().read()) == 3 << 20
    connection.close()
    client.delete("content", "DAY")
    daemon.signal(signal.SIGHUP)
    daemon.wait_told("RELOADING=1")
    daemon.signal(signal.SIGTERM)
    daemon.wait_told("STOPPING=1")
    assert daemon.wait_logged("stopped")


def filtered_calls() -> set[str]:
    """What the unit's SystemCallFilter= lines leave, in the words of this machine's systemd."""
    listing = subprocess.run([tool("systemd-analyze"), "syscall-filter"], capture_output=True, text=True, check=True)
    groups: dict[str, list[str]] = {}
    for line in listing.stdout.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def expand(name: str) -> set[str]:
        return set().union(*map(expand, groups[name])) if name.startswith("@") else {name}

    allowed: set[str] = set()
    for line in settings_of(UNIT, "SystemCallFilter"):
        named = set().union(*map(expand, line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed | expand("@default")
