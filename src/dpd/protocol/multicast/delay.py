# SPDX-License-Identifier: Apache-2.0
"""Whether a queue stands on the way from the sender: the delay of its BEATs against the least that was seen.

The two clocks are unrelated, so only differences count. The least delay is that of the last 10 to 20 s: a skew of 100
millionths moves it by 2 ms in that time, which is less than what is called a queue here.
"""

from __future__ import annotations

BUCKET_S = 10.0
QUEUE_S = 0.005  # more than this above the least delay is a queue
STANDING_S = 0.2  # and one that lasts so long stands
_TURN_US = 1 << 32


class Extreme:
    """The greatest value of the last BUCKET_S to 2 x BUCKET_S."""

    def __init__(self) -> None:
        self._before = self._latest = float("-inf")
        self._since = 0.0

    def note(self, value: float, now: float) -> float:
        """Take in a value. Returns the greatest."""
        if now - self._since >= BUCKET_S:
            self._before = self._latest if now - self._since < 2 * BUCKET_S else float("-inf")
            self._latest, self._since = float("-inf"), now
        self._latest = max(self._latest, value)
        return self.value

    @property
    def value(self) -> float:
        return max(self._before, self._latest)


class QueueDelay:
    """Told of each authentic BEAT: symbols carry unsigned times."""

    def __init__(self) -> None:
        self._first_us: int | None = None
        self._least = Extreme()  # of the negated delay
        self._high_since: float | None = None

    def note(self, tx_time: int, now: float) -> None:
        """A BEAT that was sent at `tx_time`, microseconds of the sender's clock modulo 2**32, has arrived now."""
        apart_us = int(now * 1e6) - tx_time
        if self._first_us is None:
            self._first_us = apart_us
        delay_us = (apart_us - self._first_us + _TURN_US // 2) % _TURN_US - _TURN_US // 2
        above_s = (delay_us + self._least.note(-delay_us, now)) / 1e6
        if above_s <= QUEUE_S:
            self._high_since = None
        elif self._high_since is None:
            self._high_since = now

    @property
    def is_high(self) -> bool:
        """The latest BEAT met a queue."""
        return self._high_since is not None

    def is_standing(self, now: float) -> bool:
        """Every BEAT of the last STANDING_S or longer met a queue."""
        return self._high_since is not None and now - self._high_since >= STANDING_S
