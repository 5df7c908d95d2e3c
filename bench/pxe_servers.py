# SPDX-License-Identifier: Apache-2.0
"""The servers of `pxe_storm`: each gives the same loader to UEFI x64 machines by proxyDHCP and TFTP, on a core of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.machine import version_of
from bench.netns import DEVICE, Host, Lan

DPD = Path(sys.executable).with_name("dpd")
LOADER = Path("/usr/lib/ipxe/snponly.efi")  # 170 KB; Debian's ipxe
UEFI_X64 = 7  # option 93
READY_S = 20.0
CORE = min(os.sched_getaffinity(0))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

DPD_TOML = """
[daemon]
state_dir = "{folder}/state"
log_format = "json"
[pxe]
unknown_computers = "deny"
[[pxe.rule]]
name = "uefi-x64"
client_class = "PXEClient"
client_arch = [{arch}]
loader = "{loader}"
[tftp]
max_transfers = 2048
[boot]
directory = "{folder}/boot"
[multicast]
enabled = false
[control]
socket = "{folder}/control.sock"
[metrics]
listen = ""
"""


class PxeServer(ABC):
    """A server process in the namespace `server`, pinned to one core; it ends with the LAN."""

    name: ClassVar[str]

    def __init__(self, lan: Lan, folder: Path, macs: list[str]) -> None:
        self._host, self._folder, self._macs = lan["server"], folder, macs
        self._process = self.start(self._host)
        self.wait_until_ready()
        self.prepare()

    @staticmethod
    @abstractmethod
    def version() -> str: ...

    @abstractmethod
    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """The process."""

    def wait_until_ready(self) -> None:
        """Until port 4011 is taken, which both servers bind."""
        deadline = time.monotonic() + READY_S
        while ":4011 " not in self._host.run("ss", "-Hulpn"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} did not get ready; its log is {self._folder}/log")
            time.sleep(0.05)

    def prepare(self) -> None:  # noqa: B027
        """What is to be told to the running server."""

    def forget_boots(self) -> None:  # noqa: B027
        """Each machine's next boot is to be its first one."""

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def launch(self, host: Host, *command: str | Path) -> subprocess.Popen[bytes]:
        """On CORE alone; what it says goes into the folder."""
        with (self._folder / "log").open("ab") as log:
            return host.start("taskset", "--cpu-list", str(CORE), *command, stdout=log)


class Dpd(PxeServer):
    """`dpd serve` as a site has it: it knows each machine and no other, and a required deployment for all of them, whose run
    it writes down before the machine may fetch anything; tickets, the journal, its log."""

    name = "dpd"

    @staticmethod
    def version() -> str:
        return version_of(str(DPD), "--version")

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        (self._folder / "state").mkdir()
        config = self._folder / "dpd.toml"
        config.write_text(DPD_TOML.format(folder=self._folder, arch=UEFI_X64, loader=LOADER.name), encoding="ascii")
        return self.launch(host, DPD, "serve", "--config", config)

    def prepare(self) -> None:
        computers = self._folder / "computers.csv"
        lines = [f"PC-{number:04d},{mac}" for number, mac in enumerate(self._macs)]
        computers.write_text("\n".join(["name,mac", *lines, ""]), encoding="ascii")
        self.tell("computer", "import", computers)
        self.tell("deployment", "add", "--all", "--required", "--confirm", str(len(self._macs)))

    def forget_boots(self) -> None:
        self.tell("deployment", "clear", "1", "--all")

    def tell(self, *command: str | Path) -> None:
        """The operator's command, against this daemon."""
        self._host.run("env", f"DPD_SOCKET={self._folder}/control.sock", DPD, *command)


class Dnsmasq(PxeServer):
    """dnsmasq as proxyDHCP and TFTP server, with room for all at once. It knows each machine and answers no other; its log goes
    to a file, as dpd's does."""

    name = "dnsmasq"

    @staticmethod
    def version() -> str:
        return version_of("dnsmasq", "--version")

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        hosts = self._folder / "hosts"
        hosts.write_text("".join(f"{mac},set:room\n" for mac in self._macs), encoding="ascii")
        return self.launch(
            host,
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--leasefile-ro"),
            *(f"--interface={DEVICE}", f"--dhcp-range={host.address},proxy,255.255.0.0", "--pid-file="),
            *(f"--pxe-service={UEFI_X64},boot,{LOADER.name}", "--enable-tftp", f"--tftp-root={self._folder}/boot"),
            *(f"--dhcp-hostsfile={hosts}", "--dhcp-ignore=tag:!room"),
            *("--tftp-max=2048", f"--log-facility={self._folder}/dnsmasq.log"),
        )


SERVERS: tuple[type[PxeServer], ...] = (Dpd, Dnsmasq)
