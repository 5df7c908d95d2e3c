# SPDX-License-Identifier: Apache-2.0
"""When HTTP is the better way than multicast: a network that passes none, or a group slower than its floor.

    HTTP begins                                            and ends
    nothing of the session heard DEAF_S after the join      the group brought more than the floor for FLOWS_S
    the group brought less than the floor for SLOW_S        the same

Before a scheduled start nothing is expected, and nothing taken over HTTP: whoever chose that time meant this traffic, too.
"""

from __future__ import annotations

from collections import deque

from dpd.protocol.multicast.geometry import SYMBOL_BYTES

DEAF_S = 3.0
SLOW_S = 30.0
FLOWS_S = 5.0
LEAST_FLOOR_KIB_S = 64  # where the session has no floor: what counts as flowing again


class FallBack:
    """Tells which way is better; `floor_kib_s` and `starts_in_s` are the join's, `now` that of the join."""

    def __init__(self, floor_kib_s: int, starts_in_s: float | None, now: float) -> None:
        self.reason = ""  # why HTTP is the way; empty while it is not
        self._floor_kib_s = floor_kib_s
        self._begins_at = now + max(starts_in_s or 0.0, 0.0)
        self._deaf_at = max(now + DEAF_S, self._begins_at)
        self._samples: deque[tuple[float, int]] = deque([(self._begins_at, 0)])

    @property
    def is_wanted(self) -> bool:
        return bool(self.reason)

    def judge(self, has_heard: bool, symbols: int, now: float) -> bool:
        """Whether HTTP is the way now, after so many symbols from the group; to be asked a few times a second."""
        self._note(symbols, now)
        if self.reason:
            if self._flows(now):
                self.reason = ""
        elif not has_heard:
            if now >= self._deaf_at:
                self.reason = f"no multicast arrived for {DEAF_S:.0f} s"
        elif self._is_slow(now):
            self.reason = f"multicast brought less than {self._floor_kib_s} KiB/s for {SLOW_S:.0f} s"
        return self.is_wanted

    def _note(self, symbols: int, now: float) -> None:
        if now > self._samples[-1][0]:
            self._samples.append((now, symbols))
        while len(self._samples) > 2 and self._samples[1][0] <= now - SLOW_S:
            self._samples.popleft()

    def _is_slow(self, now: float) -> bool:
        rate = self._rate(SLOW_S, now)
        return rate is not None and rate < self._floor_kib_s

    def _flows(self, now: float) -> bool:
        rate = self._rate(FLOWS_S, now)
        return rate is not None and rate >= max(self._floor_kib_s, LEAST_FLOOR_KIB_S)

    def _rate(self, period_s: float, now: float) -> float | None:
        """KiB/s over the latest `period_s`; None while less is known."""
        before = None
        for sample in self._samples:
            if sample[0] > now - period_s:
                break
            before = sample
        if before is None:
            return None
        at, symbols = self._samples[-1]
        return (symbols - before[1]) * SYMBOL_BYTES / 1024 / max(at - before[0], 1e-6)
