# SPDX-License-Identifier: Apache-2.0
"""How long a receiver keeps trying, and how long it waits between two tries."""

from __future__ import annotations

import random
import time

from dpd.errors import DpdError

FIRST_RETRY_S, MAX_RETRY_S = 0.5, 10.0


class Patience:
    """Keeps trying while something moves: raises when `limit_s` passed without progress. Waits grow, with jitter."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._rng = random.Random()
        self.reset()

    def reset(self) -> None:
        self._moved_at = time.monotonic()
        self._wait_s = FIRST_RETRY_S

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._moved_at > self._limit_s

    def wait(self, error: DpdError) -> None:
        """Sleep before the next try, or raise `error` when patience would be over by then."""
        if time.monotonic() - self._moved_at + self._wait_s > self._limit_s:
            raise error
        time.sleep(self._wait_s * (0.5 + self._rng.random() / 2))
        self._wait_s = min(self._wait_s * 2, MAX_RETRY_S)
