# SPDX-License-Identifier: Apache-2.0
"""What every bench prints: the machine it ran on, medians with their spread, and ratios to the peers."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated runs of one measurement: the median, and how far the runs lie apart."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f"{self.median:.4g} [{self.low:.4g}-{self.high:.4g}] n={self.runs}"


def spread(samples: Iterable[float]) -> Spread:
    """Median and extremes of at least one sample."""
    values = sorted(samples)
    return Spread(statistics.median(values), values[0], values[-1], len(values))


def ratio(ours: Spread, theirs: Spread) -> str:
    """Median over median, as `2.1 x`."""
    return f"{ours.median / theirs.median:.2f} x" if theirs.median else "-"


def facts() -> dict[str, Any]:
    """The machine and the software, as far as they change results."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "commit": _commit(),
    }


def print_facts() -> None:
    """The facts, one in a line, for the head of a result."""
    for name, value in facts().items():
        print(f"{name:>14}: {value}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with equal keys as a Markdown table, columns aligned."""
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def version_of(*command: str) -> str:
    """The first line a program prints about itself, or `missing`; peers go into the result by version."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "missing"
    lines = (run.stdout or run.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    here = Path(__file__).resolve().parent
    return version_of("git", "-C", str(here), "describe", "--always", "--dirty")
