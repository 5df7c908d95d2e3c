# SPDX-License-Identifier: Apache-2.0
"""What pulling counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from dpd.telemetry.stats import bump, counter, counts, gauge


@dataclass(slots=True)
class PullStats:
    """Pulls count from several threads, and `+=` on an attribute is not one step: so `add` and `count` hold a lock."""

    bytes: dict[str, int] = counts("Bytes pulled, by the kind of source", "source")
    requests: dict[str, int] = counts("Requests to sources, by how they ended", "outcome")
    bytes_reused: int = counter("Bytes taken from an older version here instead of being pulled")
    bytes_again: int = counter("Bytes pulled that had to be thrown away")
    running: int = gauge("Pulls under way now")
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def came(self, kind: str, count: int) -> None:
        """Bytes from a source."""
        with self.lock:
            bump(self.bytes, kind, count)

    def ended(self, outcome: str) -> None:
        """A request."""
        with self.lock:
            bump(self.requests, outcome)

    def add(self, *, reused: int = 0, again: int = 0, running: int = 0) -> None:
        """To the plain numbers."""
        with self.lock:
            self.bytes_reused += reused
            self.bytes_again += again
            self.running += running
