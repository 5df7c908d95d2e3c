# SPDX-License-Identifier: Apache-2.0
"""How much a receiver lets the sender have under way: what the network between them holds, found by trying.

A socket buffer of 16 MB would take 13,000 symbols at once; the port of a switch between a 10 Gbit/s server and its
1 Gbit/s clients may hold 200, and without this the session sent up to seven times what it took. A window grows while all
arrives and halves when more than a twelfth does not. Below that, loss is left to repair: it is cheap, and chance loss
would bring the rate down for nothing. The smallest window still carries 1.4 Gbit/s over 1 ms.
"""

from __future__ import annotations

FIRST_WINDOW = 1024
MIN_WINDOW = 128
SAMPLE = 2048  # symbols judged at once, at least: a lost train of 32 now and then is chance
LOSS_SHARE = 12  # one symbol in so many is more than chance


class Window:
    """`size`: symbols that may be under way, at most `limit`, which is what the socket's buffer holds."""

    def __init__(self, limit: int) -> None:
        self.size = min(FIRST_WINDOW, limit)
        self._limit = limit
        self._has_lost = False
        self._judged_symbols = self._judged_lost = 0

    def judge(self, symbols: int, lost: int) -> None:
        """Totals so far. Once per window: it doubles until the first loss, then grows by a sixteenth or halves."""
        arrived, missing = symbols - self._judged_symbols, lost - self._judged_lost
        if arrived + missing < max(self.size, SAMPLE):
            return
        self._judged_symbols, self._judged_lost = symbols, lost
        if missing * LOSS_SHARE > arrived + missing:
            self._has_lost = True
            self.size = max(self.size // 2, min(MIN_WINDOW, self._limit))
        else:
            self.size = min(self.size + (self.size // 16 if self._has_lost else self.size), self._limit)
