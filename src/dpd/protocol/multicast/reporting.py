# SPDX-License-Identifier: Apache-2.0
"""When a receiver reports: as often as the sender needs it, and in a large group no more than it can read.

At 1000 members the sender hears 250 of the slow reports in a second, at most 1000 answers to END_OF_PASS, and 20 from
each representative; a representative whose window is half used up is heard all the same, or the sender would wait.
"""

from __future__ import annotations

import random

REPORT_S = 1.0
MAX_REPORT_S = 4.0  # well below the time after which the sender gives up a member
FAST_REPORT_S = 0.2
MIN_REPORT_GAP_S = 0.005
REPORT_GAPS = 10
MEMBERS_PER_S = 250  # slow reports that reach the sender
ANSWERS_PER_S = 1000  # to END_OF_PASS
FAST_GAP_PER_MEMBER_S = 0.05 / 1000
DRAIN_SAMPLE_S = 1.0
MAX_ECHO_ERROR_US = 1_000_000


class ReportTimer:
    """`due`: when to report. `symbols` and `seen`: as of the latest report; `members`: the size of the group. Without `rng`
    the slow reports come at their mean distance."""

    def __init__(self, now: float, rng: random.Random | None = None) -> None:
        self.due = now
        self.symbols = 0
        self.seen = -1
        self.members = 1
        self._at = float("-inf")
        self._rng = rng

    def by(self, at: float) -> None:
        """Report at that time, if nothing else makes it earlier."""
        self.due = min(self.due, at)

    def soon(self, now: float) -> None:
        """There is news for the sender: a representative tells it, but not too often."""
        self.by(max(now, self._at + max(MIN_REPORT_GAP_S, self._fast_gap_s())))

    def of_window(self, symbols: int, window: int, now: float) -> None:
        """A quarter of the window or more is used up since the latest report."""
        is_urgent = symbols - self.symbols >= window // 2
        self.by(now if is_urgent else max(now, self._at + self._fast_gap_s()))

    def answer_end(self, now: float, nack_s: float, rng: random.Random) -> None:
        """The sender waits for everybody's word: spread over the group, and not over and over."""
        spread_s = max(nack_s, self.members / ANSWERS_PER_S)
        again = max(now, self._at + max(REPORT_GAPS * nack_s, 2 * spread_s))
        self.by(again + rng.random() * spread_s)

    def note_sent(self, symbols: int, seen: int, is_representative: bool, now: float) -> None:
        """A report has left."""
        self.symbols, self.seen, self._at = symbols, seen, now
        spread = self._rng.uniform(0.75, 1.25) if self._rng else 1.0
        slow_s = min(max(REPORT_S, self.members / MEMBERS_PER_S), MAX_REPORT_S)
        # Apart from each other though they joined together: each report is a quarter of the time early or late.
        self.due = now + (FAST_REPORT_S if is_representative else slow_s * spread)

    def _fast_gap_s(self) -> float:
        return self.members * FAST_GAP_PER_MEMBER_S


def believable_echo(symbol: tuple[int, float], beat: tuple[int, float] | None) -> tuple[int, float]:
    """The sender's time to repeat, and when it came. Each argument: a tx_time and when it came, of the latest symbol and of
    the latest BEAT; the symbol's, which anybody may have written, only where it fits the BEAT's."""
    if beat is None:
        return symbol
    expected = beat[0] + int((symbol[1] - beat[1]) * 1e6)
    is_near = (symbol[0] - expected + MAX_ECHO_ERROR_US) & 0xFFFFFFFF <= 2 * MAX_ECHO_ERROR_US
    return symbol if is_near else beat


class Drain:
    """Bytes verified and stored per second, smoothed over a few seconds."""

    def __init__(self) -> None:
        self._bytes = 0
        self._rate = 0.0  # bytes/s
        self._since: float | None = None
        self._is_measured = False

    def begin(self, now: float) -> None:
        """The first symbols came: time counts from here."""
        if self._since is None:
            self._since = now

    def add(self, size_bytes: int) -> None:
        """A slab was stored."""
        self._bytes += size_bytes

    def kib_s(self, now: float) -> int:
        """The rate lately; 0 before there is one."""
        if self._since is not None and now - self._since >= DRAIN_SAMPLE_S:
            sample = self._bytes / (now - self._since)
            self._rate += (sample - self._rate) / (4 if self._is_measured else 1)
            self._bytes, self._since, self._is_measured = 0, now, True
        return int(self._rate / 1024)
