# SPDX-License-Identifier: Apache-2.0
"""Programs that do the same with the same bytes, in turn: A B C A B C."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Spread, ratio, spread, table

Run = Callable[[], None]

MIB = 1 << 20
MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the command line asks for."""

    folder: Path
    size_mib: int
    files: int
    rounds: int


def choose(description: str | None) -> Chosen:
    """Read the command line of a contest over one large file and over many small ones."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller, and three rounds")
    parser.add_argument("--folder", type=Path, default=Path(MEMORY), help="where sources and libraries lie")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    amounts = (256, 2000, 3) if chosen.quick else (chosen.size_mib, chosen.files, chosen.rounds)
    return Chosen(chosen.folder, *amounts)


def shell(line: str, folder: Path) -> Run:
    """A run of a shell command."""

    def run() -> None:
        subprocess.run(["sh", "-c", line], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    return run


class Contest:
    """Runs in turn over the same bytes, and what each took."""

    def __init__(self, size_bytes: int, files: int, rounds: int) -> None:
        self._size_bytes, self._files, self._rounds = size_bytes, files, rounds
        self._runs: dict[str, tuple[Run, Run]] = {}
        self.seconds: dict[str, list[float]] = {}
        self._cpu_seconds: dict[str, list[float]] = {}

    def add(self, name: str, run: Run, clean_up: Run = lambda: None) -> None:
        """`clean_up` is not counted."""
        self._runs[name] = (run, clean_up)

    def hold(self) -> None:
        """All of them, once uncounted and then in turn."""
        for counted in range(self._rounds + 1):
            for name, (run, clean_up) in self._runs.items():
                begun, cpu_begun = time.monotonic(), _cpu_s()
                run()
                ended, cpu_ended = time.monotonic(), _cpu_s()
                clean_up()
                if counted:
                    self.seconds.setdefault(name, []).append(ended - begun)
                    self._cpu_seconds.setdefault(name, []).append(cpu_ended - cpu_begun)

    def speed(self, name: str) -> Spread:
        """MB/s."""
        return spread(self._size_bytes / 1e6 / each for each in self.seconds[name])

    def show(self, peer: str) -> None:
        """A row for each, with the ratio to one of them."""
        rows = [
            {
                "what": name,
                "MB/s": str(self.speed(name)),
                "files/s": f"{self._files / spread(self.seconds[name]).median:.0f}",
                f"x {peer}": ratio(self.speed(name), self.speed(peer)),
                "CPU s": f"{spread(self._cpu_seconds[name]).median:.2f}",
            }
            for name in self._runs
        ]
        print(table(rows), "\n")


def _cpu_s() -> float:
    """User and system time of this process and the children it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
