# SPDX-License-Identifier: Apache-2.0
"""What a receiver counts over all its sessions, for whoever started it and for the distribution point."""

from __future__ import annotations

import time
from dataclasses import fields

from dpd.protocol.multicast.receiver import ReceiverCounters

_TOLD_AS = {"symbols": "received"}  # where REPORT's tally has another word for it


class Account:
    """Sums over sessions; `started_bytes` were there from an earlier run."""

    def __init__(self, started_bytes: int) -> None:
        self.started_bytes = started_bytes
        self.unicast_bytes = 0
        self.moves = 0
        self._sums = {each.name: 0 for each in fields(ReceiverCounters)}
        self._started_at = time.monotonic()

    def add(self, counters: ReceiverCounters, unicast_bytes: int) -> None:
        """A session is over."""
        for name in self._sums:
            self._sums[name] += getattr(counters, name)
        self.unicast_bytes += unicast_bytes

    def statistics(self) -> dict[str, float]:
        """As the distribution point takes them: the names of REPORT's tally and a few more."""
        told: dict[str, float] = {_TOLD_AS.get(name, name): value for name, value in self._sums.items()}
        told["moves"] = self.moves
        told["unicast_bytes"] = self.unicast_bytes
        told["seconds"] = round(time.monotonic() - self._started_at, 3)
        return told

    def sources(self, size_bytes: int) -> dict[str, int]:
        """Where the bytes of the whole image came from."""
        multicast = size_bytes - self.started_bytes - self.unicast_bytes
        return {
            "multicast_bytes": max(multicast, 0),
            "unicast_bytes": self.unicast_bytes,
            "resumed_bytes": self.started_bytes,
        }
