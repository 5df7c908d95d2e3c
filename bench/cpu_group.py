# SPDX-License-Identifier: Apache-2.0
"""The processor time of a program with all its threads and children, those that nobody waits for included: a control group."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class CpuGroup:
    """A control group, version 1 or 2, in which a program is started. Needs root."""

    def __init__(self, name: str) -> None:
        self._unified = (ROOT / "cgroup.controllers").exists()
        self._folder = (ROOT if self._unified else ROOT / "cpuacct") / f"dpd-bench-{os.getpid()}-{name}"
        self._folder.mkdir()

    def enter(self) -> None:
        """The calling process, and what it starts from now on."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def seconds(self) -> float:
        """User and system time until now."""
        if self._unified:
            fields = dict(line.split() for line in (self._folder / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        return int((self._folder / "cpuacct.usage").read_text()) / 1e9

    def remove(self) -> None:
        """Once all its processes have ended."""
        self._folder.rmdir()
