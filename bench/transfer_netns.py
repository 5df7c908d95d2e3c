# SPDX-License-Identifier: Apache-2.0
"""One file to N receivers: dpd's multicast beside udpcast and nginx, each receiver in its own network namespace.

    python -m bench.transfer_netns [--receivers 4] [--size-mib 1024] [--runs 3] [--loss 0 1] [--trains whole split] [--quick]

Runs alternate between the systems. What the figures mean, and what they do not, is in bench/README.md. Needs root.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.machine import facts, print_facts, table
from bench.netns import DEVICE, Lan, missing
from bench.transfer_results import Mode, Run, rows, verdicts
from bench.transfer_systems import DPD, Dpd, Nginx, Race, System, Udpcast

SHM = Path("/dev/shm")
DATA_FLOWS_BYTES = 65536  # the data phase begins when this much has left the sender
LIMIT_S = 60.0
QUIET_LIMIT_S = 8.0
QUIET_SHARE = 0.25  # of one core
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SYSTEMS: dict[str, type[System]] = {"dpd": Dpd, "udpcast": Udpcast, "nginx": Nginx}
PROGRAMS = {"dpd": str(DPD), "udpcast": "udp-sender", "nginx": "nginx"}
START_DELAY_S = 0.1  # udpcast knows how many receivers will come; dpd waits this long for a further one


@dataclass(frozen=True, slots=True)
class Finish:
    """What was seen while the processes of one transfer ran."""

    seconds: float
    data_seconds: float
    sender_cpu_s: float
    receivers_cpu_s: float
    failed: frozenset[int]  # receivers, by number


class Wire:
    """The sender's network device, read from outside its namespace, cheaply enough to be read all the time."""

    def __init__(self, lan: Lan) -> None:
        anchor = lan["server"].start("sleep", "infinity")
        while b"sleep" not in Path(f"/proc/{anchor.pid}/cmdline").read_bytes().split(b"\0")[0]:
            time.sleep(0.005)  # `ip netns exec` has not become the command yet
        self._file = open(f"/proc/{anchor.pid}/net/dev", encoding="ascii")  # noqa: SIM115  as long as the LAN

    def sent_bytes(self) -> int:
        self._file.seek(0)
        return int(self._file.read().partition(f"{DEVICE}:")[2].split()[8])

    def close(self) -> None:
        self._file.close()


class Arena:
    """A LAN with one sender and its receivers, the file, and the places where it is to arrive."""

    def __init__(self, lan: Lan, home: Path, receivers: int, size: int) -> None:
        self.lan = lan
        self.size = size
        self.image = home / "image.bin"
        self.names = [f"r{i}" for i in range(receivers)]
        self.outputs = [home / f"received{i}" for i in range(receivers)]
        self.wire = Wire(lan)
        with self.image.open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        self._sha256 = _sha256(self.image)

    def arrange(self, mode: Mode) -> None:
        """Set trains, loss and GRO for all runs until the next call."""
        state = "on" if mode.trains == "whole" else "off"
        features = [word for name in ("tx-udp-segmentation", "tso", "gso") for word in (name, state)]
        self.lan["server"].run("ethtool", "-K", DEVICE, *features)
        for name in self.names:
            self.lan.lose_nothing(name)
            if mode.loss_percent:
                self.lan.lose(name, mode.loss_percent / 100)
            self.lan[name].run("ethtool", "-K", DEVICE, "gro", "on" if mode.gro else "off")

    def clear(self) -> None:
        """Every output exists in touched pages and holds nothing of an earlier run."""
        blank = bytes(1 << 20)
        for output in self.outputs:
            for suffix in (".part", ".journal"):
                Path(f"{output}{suffix}").unlink(missing_ok=True)
            with open(os.open(output, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                for _ in range(self.size >> 20):
                    file.write(blank)

    def run(self, mode: Mode, system: System) -> Run:
        """One transfer, measured, and then each file compared."""
        self.clear()
        wait_for_quiet()
        sent, softirq, standing = self.wire.sent_bytes(), _softirq_s(), _cpu_s(system.sender_pids())
        finish = Watch(system.launch(self.outputs), self.wire).finish()
        sender = finish.sender_cpu_s + _cpu_s(system.sender_pids()) - standing
        softirq, sent = _softirq_s() - softirq, self.wire.sent_bytes() - sent
        wrong = {i for i, output in enumerate(self.outputs) if not output.exists() or _sha256(output) != self._sha256}
        return Run(
            mode=mode,
            system=system.name,
            size_bytes=self.size,
            receivers=len(self.outputs),
            seconds=finish.seconds,
            data_seconds=finish.data_seconds,
            sent_ratio=sent / self.size,
            sender_cpu_s=sender,
            receivers_cpu_s=finish.receivers_cpu_s,
            softirq_s=softirq,
            failed=len(finish.failed | wrong),
        )


class Watch:
    """Waits until every process of a race has ended; kills what runs after LIMIT_S."""

    def __init__(self, race: Race, wire: Wire) -> None:
        self._race, self._wire = race, wire
        self._waiting = {process.pid: process for process in (*race.receivers, *race.senders)}
        self._numbers = {process.pid: number for number, process in enumerate(race.receivers)}
        self._sent_before = wire.sent_bytes()
        self._data_at = 0.0
        self._last_at = race.started_at
        self._sender_cpu_s = self._receivers_cpu_s = 0.0
        self._failed: set[int] = set()

    def finish(self) -> Finish:
        late_at = self._race.started_at + LIMIT_S
        while self._waiting:
            self._reap()
            now = time.monotonic()
            if not self._data_at and self._wire.sent_bytes() - self._sent_before > DATA_FLOWS_BYTES:
                self._data_at = now
            if now > late_at:
                for process in self._waiting.values():
                    process.kill()
            time.sleep(0.002)
        started, data_at = self._race.started_at, self._data_at or self._race.started_at
        return Finish(
            seconds=self._last_at - started,
            data_seconds=self._last_at - data_at,
            sender_cpu_s=self._sender_cpu_s,
            receivers_cpu_s=self._receivers_cpu_s,
            failed=frozenset(self._failed),
        )

    def _reap(self) -> None:
        for pid, process in list(self._waiting.items()):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if not ended:
                continue
            del self._waiting[pid]
            process.returncode = os.waitstatus_to_exitcode(status)  # Popen cannot ask for it any more
            if pid not in self._numbers:
                self._sender_cpu_s += usage.ru_utime + usage.ru_stime
                continue
            self._receivers_cpu_s += usage.ru_utime + usage.ru_stime
            self._last_at = time.monotonic() - self._race.lingering_s
            if process.returncode:
                self._failed.add(self._numbers[pid])


def wait_for_quiet() -> None:
    """Start at a moment when others leave the cores alone, if one comes within QUIET_LIMIT_S."""
    deadline = time.monotonic() + QUIET_LIMIT_S
    while time.monotonic() < deadline:
        before = _busy_s()
        time.sleep(0.3)
        if _busy_s() - before < 0.3 * QUIET_SHARE:
            return


def _busy_s() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return (sum(map(int, fields[1:4])) + sum(map(int, fields[6:9]))) * TICK_S


def _softirq_s() -> float:
    return int(Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[7]) * TICK_S


def _cpu_s(pids: Sequence[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare(options: argparse.Namespace) -> list[Run]:
    """All modes, all systems, all runs."""
    names = ["server", *(f"r{i}" for i in range(options.receivers))]
    modes = [Mode(t, loss, gro == "on") for t in options.trains for gro in options.gro for loss in options.loss]
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="dpd-bench-") as directory,
        Lan(*names, checksum_offload=True) as lan,
    ):
        home = Path(directory)
        arena = Arena(lan, home, options.receivers, options.size_mib << 20)
        systems = [SYSTEMS[name](lan, home, arena.image, start_delay_s=options.start_delay) for name in options.systems]
        for system in systems:
            print(f"{system.name:>14}: {system.version()}")
        for mode in modes:
            arena.arrange(mode)
            for _ in range(options.runs):
                for system in systems:
                    runs.append(arena.run(mode, system))
                    print(f"# {runs[-1]}", file=sys.stderr)
        arena.wire.close()
    return runs


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=int, default=4)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trains", nargs="+", choices=["whole", "split"], default=["whole", "split"])
    parser.add_argument("--loss", nargs="+", type=float, default=[0, 1], help="percent, at each receiver for itself")
    parser.add_argument("--gro", nargs="+", choices=["off", "on"], default=["off"], help="at the receivers' devices")
    parser.add_argument("--start-delay", type=float, default=START_DELAY_S, help="dpd's multicast.start_delay_s")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--quick", action="store_true", help="128 MiB and 2 runs")
    parser.add_argument("--json", type=Path, help="write every run into this file")
    options = parser.parse_args()
    if options.quick:
        options.size_mib, options.runs = 128, 2
    return options


def main() -> None:
    options = parse_arguments()
    absent = missing("iptables", "curl", *(PROGRAMS[name] for name in options.systems))
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    runs = compare(options)
    print(f"\n{options.receivers} receivers, {options.size_mib} MiB, {options.runs} runs, median [lowest-highest]\n")
    print(table(list(rows(runs))))
    print("", *verdicts(runs), sep="\n")
    if options.json:
        document = {"facts": facts(), "options": vars(options) | {"json": None}, "runs": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
