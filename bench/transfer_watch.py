# SPDX-License-Identifier: Apache-2.0
"""Watching one transfer from outside: the sender's wire, the processes, the processor time they took."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.netns import DEVICE, Lan

DATA_FLOWS_BYTES = 65536  # the data phase begins when this much has left the sender
QUIET_LIMIT_S = 8.0
QUIET_SHARE = 0.25  # of one core
LAST_CHANCE_S = 1.0  # for standing receivers, after the sender has ended
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Race:
    """One transfer under way. `senders` were started for it; `lingering_s` is what receivers wait after their last byte.

    Receivers end by themselves, unless `arrivals` names the files that appear when they are complete: then they are ended.
    """

    started_at: float
    receivers: list[Process]
    senders: list[Process]
    lingering_s: float = 0.0
    arrivals: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finish:
    """What was seen while the processes of one transfer ran."""

    seconds: float
    data_seconds: float
    sender_cpu_s: float
    receivers_cpu_s: float
    failed: frozenset[int]  # receivers, by number
    ended_s: tuple[float, ...]  # when each receiver was complete or ended, since the start


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


class Watch:
    """Waits until every process of a race has ended; kills what runs after `limit_s`."""

    def __init__(self, race: Race, wire: Wire, limit_s: float) -> None:
        self._race, self._wire, self._limit_s = race, wire, limit_s
        self._waiting = {process.pid: process for process in (*race.receivers, *race.senders)}
        self._numbers = {process.pid: number for number, process in enumerate(race.receivers)}
        self._sent_before = wire.sent_bytes()
        self._data_at = self._senders_ended_at = 0.0
        self._ended_s = [0.0] * len(race.receivers)
        self._sender_cpu_s = self._receivers_cpu_s = 0.0
        self._failed: set[int] = set()

    def finish(self) -> Finish:
        late_at = self._race.started_at + self._limit_s
        while self._waiting:
            now = time.monotonic()
            self._reap(now)
            self._note_arrivals(now)
            if not self._data_at and self._wire.sent_bytes() - self._sent_before > DATA_FLOWS_BYTES:
                self._data_at = now
            if now > late_at:
                self._signal_waiting(signal.SIGKILL)
            time.sleep(0.002)
        started, data_at = self._race.started_at, self._data_at or self._race.started_at
        last_s = max(self._ended_s, default=0.0)
        return Finish(
            seconds=last_s,
            data_seconds=last_s - (data_at - started),
            sender_cpu_s=self._sender_cpu_s,
            receivers_cpu_s=self._receivers_cpu_s,
            failed=frozenset(self._failed),
            ended_s=tuple(self._ended_s),
        )

    def _note_arrivals(self, now: float) -> None:
        """Standing receivers are told to end when all are complete and the sender knows, or has given up on some."""
        if not self._race.arrivals:
            return
        for number, path in enumerate(self._race.arrivals):
            if not self._ended_s[number] and path.exists():
                self._ended_s[number] = now - self._race.started_at
        if any(process.pid in self._waiting for process in self._race.senders):
            return
        self._senders_ended_at = self._senders_ended_at or now
        if all(self._ended_s) or now > self._senders_ended_at + LAST_CHANCE_S:
            self._signal_waiting(signal.SIGTERM)

    def _signal_waiting(self, number: signal.Signals) -> None:
        """By pid: Popen would look first whether the process has ended, and take its status and resource use away."""
        for pid in self._waiting:
            os.kill(pid, number)

    def _reap(self, now: float) -> None:
        for pid, process in list(self._waiting.items()):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if not ended:
                continue
            del self._waiting[pid]
            process.returncode = os.waitstatus_to_exitcode(status)  # Popen cannot ask for it any more
            if pid in self._numbers:
                self._receivers_cpu_s += usage.ru_utime + usage.ru_stime
                self._note_end(self._numbers[pid], process, now)
            else:
                self._sender_cpu_s += usage.ru_utime + usage.ru_stime

    def _note_end(self, number: int, process: Process, now: float) -> None:
        if self._race.arrivals:
            if not self._ended_s[number]:
                self._failed.add(number)
            return
        self._ended_s[number] = now - self._race.started_at - self._race.lingering_s
        if process.returncode:
            self._failed.add(number)


def wait_for_quiet() -> None:
    """Return at a moment when others leave the cores alone, if one comes within QUIET_LIMIT_S."""
    deadline = time.monotonic() + QUIET_LIMIT_S
    while time.monotonic() < deadline:
        before = _busy_s()
        time.sleep(0.3)
        if _busy_s() - before < 0.3 * QUIET_SHARE:
            return


def _busy_s() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return (sum(map(int, fields[1:4])) + sum(map(int, fields[6:9]))) * TICK_S


def softirq_s() -> float:
    """What the whole machine has spent in soft interrupts."""
    return int(Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[7]) * TICK_S


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of running processes."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S
