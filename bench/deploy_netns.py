# SPDX-License-Identifier: Apache-2.0
"""Eight machines take one task sequence at once, behind one port of 100 Mbit/s: what it costs beside one machine alone.

Each machine is a network namespace with the very program of the deployment environment (`dpd-target.pyz deploy`): it boots as firmware
does, so far that it has its boot script, says hello with the proof in that, takes the sequence, receives
an image and compares it with what was published. Runs are alone, together (two of eight begin when a tenth of the alone one's time has passed), and together by unicast.
Wire bytes are those of the server's port.

    sudo python -m bench.deploy_netns              # 96 MiB, three rounds
    sudo python -m bench.deploy_netns --quick
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.machine import print_facts, spread, table  # noqa: E402
from bench.netns import DEVICE, Host, Lan, missing  # noqa: E402
from tests.interop.daemon import DPD, Daemon  # noqa: E402

from dpd.protocol.pxe.client import PxeClient  # noqa: E402
from dpd.protocol.pxe.rules import ClientClass  # noqa: E402
from dpd.target.bundle import build  # noqa: E402

MACHINES = 8
LATE = 2  # of them
LATE_SHARE = 0.1  # of the time of one alone
MBIT_S = 100.0
PATIENCE_S = 600.0
WIRE_GOAL, TIME_GOAL = 1.2, 1.25
PACKAGE, BOOT_IMAGE = "LAB00001", "ENV00001"
EFI_X64 = 7  # option 93

SETTINGS = f"""
[http]
port = 8080
[multicast]
interface = "{DEVICE}"
start_delay_s = 2
[metrics]
listen = ""
"""

SEQUENCE = """
name = "{name}"
[[step]]
name = "Receive the image"
do = "{do}"
package = "{package}"
variable = "IMAGE"
[[step]]
name = "Compare it"
do = "run_command_line"
command = "cmp {image} %IMAGE%"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One way, once: the time of each machine from its power-on to the end of its sequence, and bytes on the wire as multiples of the
    image."""

    way: str
    seconds: tuple[float, ...]
    wire_ratio: float


class Machine:
    """One namespace as a machine."""

    def __init__(self, host: Host, server: str, home: Path, target: Path) -> None:
        self.host, self._server, self._home, self._target = host, server, home, target
        self.mac = host.run("cat", f"/sys/class/net/{DEVICE}/address").strip()
        home.mkdir()

    def power_on(self) -> subprocess.Popen[bytes]:
        """Boot, and start the target as our boot image does; its files of an earlier run are gone, as they were in memory."""
        self._home.joinpath("cmdline").write_text(self._boot(), encoding="utf-8")
        work = self._home / "work"
        shutil.rmtree(work, ignore_errors=True)
        with self.log.open("ab") as log:
            return self.host.start(
                *(sys.executable, "-I", "-S", self._target, "deploy", "--no-restart", "--home", self._home.parent),
                *("--work", work, "--command-line", self._home / "cmdline"),
                stdout=log,
            )

    @property
    def log(self) -> Path:
        return self._home / "log"

    def _boot(self) -> str:
        """As an iPXE: a lease is there, the boot server is asked, its script fetched. What is behind `kernel URL`."""
        client = PxeClient(self.mac, EFI_X64, ClientClass.IPXE)
        with self.host.inside():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((self.host.address, 68))
                sock.settimeout(10.0)
                sock.sendto(client.boot_request(1, self.host.address), (self._server, 4011))
                while client.read(sock.recv(2048), 1) is None:
                    pass
            with urllib.request.urlopen(f"http://{self._server}:8080/boot/boot.ipxe", timeout=10) as answer:
                script = answer.read().decode()
        found = re.search(r"^kernel \S+ (.*) \|\|", script, re.MULTILINE)
        if found is None:
            raise SystemExit(f"{self.mac} has no kernel in its boot script:\n{script}")
        return found[1]


class Room:
    """The server, its machines, and what they are to receive."""

    def __init__(self, lan: Lan, daemon: Daemon, machines: list[Machine], image: Path) -> None:
        self._lan, self._daemon, self._machines, self._image = lan, daemon, machines, image

    def publish(self, sequences: dict[str, str]) -> None:
        """Image, boot image, computers, sequences."""
        folder = self._image.parent
        kernel, initrd = folder / "vmlinuz", folder / "initrd"
        for part in (kernel, initrd):
            part.write_bytes(bytes(4096))
        self._tell("content", "add", self._image, "--package", PACKAGE)
        self._tell("boot-image", "add", "--id", BOOT_IMAGE, "--kernel", kernel, "--initrd", initrd, "--arch", "x64")
        for number, machine in enumerate(self._machines):
            self._tell("computer", "add", f"PC-{number}", "--mac", machine.mac)
        for name, do in sequences.items():
            path = folder / f"{name}.toml"
            path.write_text(SEQUENCE.format(name=name, do=do, package=PACKAGE, image=self._image), encoding="utf-8")
            self._tell("sequence", "publish", path)

    def run(self, way: str, sequence: str, count: int, late_s: float = 0.0) -> Run:
        """`late_s`: when the last two begin."""
        made = self._tell(
            *("deployment", "add", "--all", "--required", "--confirm", str(MACHINES), "--boot-image", BOOT_IMAGE),
            *("--sequence", sequence, "--json"),
        )
        server = self._lan["server"]
        before, began = server.traffic().sent_bytes, time.monotonic()
        running: list[tuple[Machine, subprocess.Popen[bytes], float]] = []
        for number, machine in enumerate(self._machines[:count]):
            if late_s and number == count - LATE:
                time.sleep(max(0.0, began + late_s - time.monotonic()))
            running.append((machine, machine.power_on(), time.monotonic()))
        ended = self._wait(running, began)
        wire = (server.traffic().sent_bytes - before) / self._image.stat().st_size
        self._tell("deployment", "remove", str(json.loads(made)["deployment"]["id"]))
        return Run(way, ended, wire)

    def _wait(self, running: list[tuple[Machine, subprocess.Popen[bytes], float]], began: float) -> tuple[float, ...]:
        """Seconds from the begin of the run to the end of each."""
        ends: dict[int, float] = {}
        while len(ends) < len(running):
            for machine, process, _ in running:
                if process.pid not in ends and process.poll() is not None:
                    ends[process.pid] = time.monotonic() - began
                    if process.returncode:
                        raise SystemExit(f"{machine.host.name} ended with {process.returncode}: {self._log(machine)}")
            if time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"not within {PATIENCE_S:.0f} s")
            time.sleep(0.02)
        return tuple(ends[process.pid] for _, process, _ in running)

    def _log(self, machine: Machine) -> str:
        return machine.log.read_text(errors="replace")[-3000:]

    def _tell(self, *command: str | Path) -> str:
        return self._lan["server"].run("env", f"DPD_SOCKET={self._daemon.socket}", DPD, *command)


def main() -> int:
    options = _options()
    if absent := missing("tc"):
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    runs: list[Run] = []
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        )
        lan = stack.enter_context(Lan("server", *(f"m{number}" for number in range(MACHINES))))
        lan.split_trains("server")
        lan.limit_sending("server", MBIT_S)
        target, image = folder / "dpd-target.pyz", folder / "image.bin"
        build(target)
        noise = random.Random(7)
        with image.open("wb") as file:
            for _ in range(options.mib):
                file.write(noise.randbytes(1 << 20))
        daemon = stack.enter_context(Daemon(_sub(folder, "dpd"), SETTINGS, lan["server"]))
        machines = [
            Machine(lan[f"m{number}"], lan["server"].address, folder / f"m{number}", target)
            for number in range(MACHINES)
        ]
        room = Room(lan, daemon, machines, image)
        room.publish({"by-multicast": "join_multicast", "by-unicast": "download_content"})
        for _ in range(options.rounds):
            alone = room.run("alone", "by-multicast", 1)
            runs += [
                alone,
                room.run("together", "by-multicast", MACHINES, LATE_SHARE * alone.seconds[0]),
                room.run("unicast", "by-unicast", MACHINES, LATE_SHARE * alone.seconds[0]),
            ]
            print(".", end="", flush=True)
    print()
    return _tell_results(runs, options.mib)


def _tell_results(runs: list[Run], mib: int) -> int:
    rows: list[dict[str, Any]] = []
    alone = statistics.median(max(run.seconds) for run in runs if run.way == "alone")
    for way in ("alone", "together", "unicast"):
        those = [run for run in runs if run.way == way]
        times = [max(run.seconds) / alone for run in those]
        rows.append(
            {
                "way": way,
                "machines": len(those[0].seconds),
                "bytes on the wire / image": f"{statistics.median(run.wire_ratio for run in those):.3f}",
                "last machine / one alone": f"{statistics.median(times):.2f}",
                "spread": str(spread(times)),
            }
        )
    print(
        f"{mib} MiB behind {MBIT_S:.0f} Mbit/s; one machine alone {alone:.1f} s from power-on to the end of its sequence"
    )
    print(table(rows))
    together = [run for run in runs if run.way == "together"]
    wire = statistics.median(run.wire_ratio for run in together)
    late = statistics.median(max(run.seconds) for run in together) / alone
    print(
        f"together: {wire:.3f} x the image on the wire (goal {WIRE_GOAL}), the last after {late:.2f} x (goal {TIME_GOAL})"
    )
    return 0 if wire <= WIRE_GOAL and late <= TIME_GOAL else 1


def _sub(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Eight targets beside one")
    parser.add_argument("--mib", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="48 MiB, one round")
    options = parser.parse_args()
    if options.quick:
        options.mib, options.rounds = 48, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
