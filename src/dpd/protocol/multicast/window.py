# SPDX-License-Identifier: Apache-2.0
"""How much a receiver lets the sender have under way: what the network between them holds, found by trying.

A socket buffer of 16 MB would take 13,000 symbols at once; the port of a switch between a 10 Gbit/s server and its
1 Gbit/s clients may hold 200, and without this the session sent up to seven times what it took. A window doubles until
the first sign of congestion and then grows by a sixteenth; three things make it smaller:

    loss in the network, more than a twelfth      half: below that it is left to repair, which is cheap, and chance loss
                                                  would bring the rate down for nothing
    a queue that stands for 0.2 s                 x 0.85, but never less than what passes in 10 ms; it does not grow from
                                                  the first BEAT on that met the queue
    drops in the own socket                       to the share that was drained: flow control and no congestion

Where the network is shared (`is_friendly`) it behaves as TCP does: half at any loss, and one symbol more per window. The
smallest window still carries 1.4 Gbit/s over 1 ms.
"""

from __future__ import annotations

from dpd.protocol.multicast.delay import STANDING_S, Extreme, QueueDelay

FIRST_WINDOW = 1024
MIN_WINDOW = 128
MIN_FRIENDLY_WINDOW = 64  # a train under way and one to come
SAMPLE = 2048  # symbols judged at once, at least: a lost train of 32 now and then is chance
LOSS_SHARE = 12  # one symbol in so many is more than chance
DELAY_FACTOR = 0.85
DELAY_FLOOR_S = 0.01  # twice what is called a queue: with less under way the line itself would run empty


class Window:
    """`size`: symbols that may be under way, at most `limit`, which is what the socket's buffer holds."""

    def __init__(self, limit: int, is_friendly: bool = False) -> None:
        self._least = min(MIN_FRIENDLY_WINDOW if is_friendly else MIN_WINDOW, limit)
        self.size = min(FIRST_WINDOW, limit)
        self._limit = limit
        self._is_friendly = is_friendly
        self._is_probing = True  # nothing has shown the network's depth yet
        self._delay = QueueDelay()
        self._rate = Extreme()  # symbols/s
        self._cut_at = 0.0
        self._size_at_beat = self.size
        self._judged_at: float | None = None
        self._judged_symbols = self._judged_lost = self._judged_drops = 0

    def judge(self, symbols: int, lost: int, drops: int, now: float) -> None:
        """Totals so far: symbols taken in, missing in tx_seq, and dropped by the own socket, which are among the missing.
        Judges once per window."""
        arrived, dropped = symbols - self._judged_symbols, drops - self._judged_drops
        missing = max(lost - self._judged_lost - dropped, 0)
        if arrived + missing + dropped < max(self.size, 0 if self._is_friendly else SAMPLE):
            return
        if self._judged_at is not None and now > self._judged_at:
            self._rate.note(arrived / (now - self._judged_at), now)
        self._judged_at = now
        self._judged_symbols, self._judged_lost, self._judged_drops = symbols, lost, drops
        if missing > (0 if self._is_friendly else (arrived + missing) // LOSS_SHARE):
            self._shrink(self.size // 2)
        elif dropped > 0:
            self._shrink(self.size * arrived // (arrived + dropped))
        elif not self._delay.is_high:  # or the first doubling past the network's depth would lose the difference
            self._grow()

    def note_beat(self, tx_time: int, now: float) -> None:
        """An authentic BEAT came: how long it took shows whether a queue stands."""
        self._delay.note(tx_time, now)
        if self._delay.is_standing(now) and now >= self._cut_at:
            self._cut_at = now + STANDING_S
            self._shrink(max(int(self.size * DELAY_FACTOR), min(self.size, self._delay_floor())))
        self._size_at_beat = self.size

    def restore(self) -> None:
        """The losses since the latest BEAT were none: somebody forges numbers."""
        self.size = max(self.size, self._size_at_beat)

    def _delay_floor(self) -> int:
        return int(max(self._rate.value, 0.0) * DELAY_FLOOR_S)

    def _shrink(self, size: int) -> None:
        self._is_probing = False
        self.size = max(size, self._least)

    def _grow(self) -> None:
        more = self.size if self._is_probing else 1 if self._is_friendly else self.size // 16
        self.size = min(self.size + more, self._limit)
