# SPDX-License-Identifier: Apache-2.0
"""One ceiling for the bytes of all pulls together: a token bucket in true bit/s.

Tokens may be spent before they have come: who takes waits until the bucket is not in debt, then takes all of his bytes
at once. Over any time T at most rate x T plus one burst and one piece pass, however large the pieces are. The rate is
asked for again each second and whenever it is said to have changed, so that an hour's end and a reload show at once.
Time is that of a clock which nobody sets.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

BURST_S = 0.1
ASK_AGAIN_S = 1.0
LEAST_PIECE_BYTES = 16 << 10
PIECE_S = 0.25  # what one piece is worth at a low rate, so that the bytes do not come in gulps

_Wait = Callable[[threading.Condition, float], object]


def _wait(condition: threading.Condition, seconds: float) -> None:
    condition.wait(seconds)


class RateLimit:
    """`rate_bit_s` tells the ceiling of this moment, infinite for none. Every method may be called from any thread."""

    def __init__(
        self, rate_bit_s: Callable[[], float], *, clock: Callable[[], float] = time.monotonic, wait: _Wait = _wait
    ) -> None:
        self._ask = rate_bit_s
        self._clock = clock
        self._wait = wait
        self._changed = threading.Condition()
        self._asked_at = self._filled_at = clock()
        self._rate = rate_bit_s() / 8
        self._tokens = 0.0  # bytes

    def piece_bytes(self, wanted: int) -> int:
        """How much to read at once of `wanted` bytes: all of it, or what is due in a quarter of a second."""
        rate = self._rate
        return wanted if rate == math.inf else min(wanted, max(LEAST_PIECE_BYTES, int(rate * PIECE_S)))

    def window_bytes(self) -> int | None:
        """What a sender may have under way to us without passing the ceiling by more than half a second; None: any amount."""
        rate = self._rate
        return None if rate == math.inf else max(4 * LEAST_PIECE_BYTES, int(rate / 2))

    def take(self, count: int, check: Callable[[], object] = lambda: None) -> None:
        """Wait until `count` bytes more may have come. `check` is called each second of the wait, and ends it by raising."""
        while (wait_s := self._try(count)) > 0:
            check()
            with self._changed:
                self._wait(self._changed, min(wait_s, ASK_AGAIN_S))

    def rate_changed(self) -> None:
        """Ask for the rate now; those who wait go on at the new one."""
        with self._changed:
            self._asked_at = -math.inf
            self._fill()
            self._changed.notify_all()

    def _try(self, count: int) -> float:
        """Take, and return 0; or the seconds until the debt is paid."""
        with self._changed:
            self._fill()
            if self._rate == math.inf:
                return 0.0
            if self._tokens <= -1:  # a debt of less than a byte is rounding
                return -self._tokens / self._rate
            self._tokens -= count
            return 0.0

    def _fill(self) -> None:
        now = self._clock()
        if self._rate != math.inf:
            # A debt made at another rate is paid at this one.
            self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._rate * BURST_S)
        self._filled_at = now
        if now - self._asked_at >= ASK_AGAIN_S:
            self._asked_at = now
            self._take_rate(self._ask() / 8)

    def _take_rate(self, rate: float) -> None:
        if math.inf in (rate, self._rate):
            self._tokens = 0.0
        self._rate = rate
