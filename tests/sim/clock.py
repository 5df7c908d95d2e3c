# SPDX-License-Identifier: Apache-2.0
"""Virtual time: an event heap. A simulated hour costs what happens in it."""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable


class Clock:
    """Runs callbacks in the order of their time; equal times in the order of asking."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Run `action` at `time`, or now if that has passed."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), action))

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Run until the condition holds. Raises AssertionError when virtual time passes `limit_s` or nothing is left."""
        while not until():
            assert self._heap, f"nothing left to happen at {self.now:.3f} s"
            self.now, _, action = heapq.heappop(self._heap)
            assert self.now <= limit_s, f"not done after {limit_s} s of virtual time"
            action()


def seeded(default: int) -> random.Random:
    """The random source of a test: DPD_SIM_SEED replays a run whose seed was printed."""
    seed = int(os.environ.get("DPD_SIM_SEED", default))
    print(f"DPD_SIM_SEED={seed}")
    return random.Random(seed)
