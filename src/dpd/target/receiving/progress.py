# SPDX-License-Identifier: Apache-2.0
"""How a receiver shows where it is: a bar on a terminal, JSON lines for whatever is not one."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.service.receiving.receiver import Progress

BAR_WIDTH = 30
PROGRESS_S = 0.2  # between two states shown


class Display:
    """`as_json`: one JSON object per line on standard output; else a bar on standard error, redrawn in place."""

    def __init__(self, name: str, *, as_json: bool, out: TextIO | None = None) -> None:
        self._name = name
        self._as_json = as_json
        self._out = out or (sys.stdout if as_json else sys.stderr)
        self._has_bar = False

    def show(self, progress: Progress) -> None:
        """The state a few times a second."""
        if self._as_json:
            self._line("progress", **_numbers(progress))
            return
        share = progress.verified_bytes / progress.size_bytes
        filled = int(share * BAR_WIDTH)
        received = progress.counters.symbols * SYMBOL_BYTES + progress.unicast_bytes
        rate = received / progress.receiving_s / 1e6 if progress.receiving_s > 0 else 0.0
        self._out.write(
            f"\r{self._name}  [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:6.1%}  "
            f"{progress.verified_slabs}/{progress.slabs} slabs  {rate:7.1f} MB/s  lost {progress.counters.lost}  "
            f"repairs {progress.counters.repairs}  {_way(progress)}"
        )
        self._out.flush()
        self._has_bar = True

    def tell(self, event: str, **fields: Any) -> None:
        """Something happened: joined, waiting, completed, failed."""
        if self._as_json:
            self._line(event, **fields)
            return
        if self._has_bar:
            self._out.write("\n")
            self._has_bar = False
        told = "  ".join(f"{key} {value}" for key, value in fields.items())
        self._out.write(f"{self._name}  {event}  {told}\n")
        self._out.flush()

    def _line(self, event: str, **fields: Any) -> None:
        self._out.write(json.dumps({"event": event, "package": self._name, **fields}) + "\n")
        self._out.flush()


def _way(progress: Progress) -> str:
    """Where it comes from, padded so that a shorter text hides a longer one."""
    if progress.starts_in_s and not progress.counters.symbols:
        way = f"starts in {progress.starts_in_s:.0f} s"
    elif progress.is_unicast:
        way = f"HTTP {progress.unicast_bytes / 1e6:.0f} MB"
    else:
        way = f"class {progress.speed_class}" if progress.speed_class else "multicast"
    return f"{way:16}"


def _numbers(progress: Progress) -> dict[str, Any]:
    counters = progress.counters
    return {
        "slabs": progress.slabs,
        "verified_slabs": progress.verified_slabs,
        "size_bytes": progress.size_bytes,
        "verified_bytes": progress.verified_bytes,
        "receiving_s": round(progress.receiving_s, 3),
        "symbols": counters.symbols,
        "lost": counters.lost,
        "socket_drops": counters.socket_drops,
        "repairs": counters.repairs,
        "recovered": counters.recovered,
        "nacks": counters.nacks,
        "class": progress.speed_class,
        "source": "unicast" if progress.is_unicast else "multicast",
        "unicast_bytes": progress.unicast_bytes,
        "starts_in_s": round(progress.starts_in_s, 1),
    }
