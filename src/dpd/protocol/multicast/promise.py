# SPDX-License-Identifier: Apache-2.0
"""How many parity rows follow a slab unasked: as many as will be asked for anyhow, so that nobody need ask.

The demand of a column is the most parity symbols that any receiver needed of it. The promise h is the largest with
E[max(0, h - demand)], what is sent in vain, at most WASTE symbols per column of 128. Estimates are cautious: with 1 to
1000 receivers and 0.01 to 5 % of loss, what was sent in vain was 0.00 to 0.08 % of the stream, and of the NACKs of a
thousand receivers 60 to 450 a second were left at 1 Gbit/s. With F(j) = P(demand <= j) that expectation is F(0) + … + F(h-1).

F is learnt from slabs that are over. A slab sent with promise h shows demands beyond h in its NACKs and says nothing of
the others but that they are at most h, so F(j) is learnt from slabs with a promise of j or less. What is not learnt
any more drifts up to its neighbour's value: in time the promise falls by one, looks, and comes back or not. Slabs that
nobody asked anything for halve it, three at a time: when loss ends the promise is 0 after some twenty slabs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from dpd.protocol.multicast.geometry import COLUMNS, ROWS

WASTE = 0.0018 * ROWS
MANY = 16  # receivers whose NACKs are worth that
MAX_PROMISED = 32  # a quarter of the stream: beyond that somebody is to be moved, not fed
MEMORY = 0.8  # weight of what was known when a slab's demand comes in: five slabs, 160 columns
DRIFT = 0.002  # per slab, for what is not learnt: some hundred slabs until the promise is put to the test
QUIET_SLABS = 3
GUESS_COLUMNS = 4.0  # weight of a guess: an eighth of a slab


class Promise:
    """`rows` is the promise for a whole slab in force now; it starts at 0. `receivers`: how large the group is."""

    def __init__(self) -> None:
        self.rows = 0
        self.receivers = MANY
        self._known = [0.0] * MAX_PROMISED  # columns that show whether their demand is at most j
        self._below = [0.0] * MAX_PROMISED  # those of them where it is
        self._quiet = 0
        self._open: deque[tuple[int, int, float]] = deque()  # slab, its promise, when its demand is known

    def __contains__(self, slab: int) -> bool:
        """Whether the demand of this slab is still to be learnt."""
        return any(slab == each for each, _, _ in self._open)

    def rows_for(self, source_rows: int) -> int:
        """The promise for a slab of so many source rows: less in proportion for a short one."""
        return self.rows * source_rows // ROWS

    def note_sent(self, slab: int, source_rows: int, promised: int, known_at: float) -> None:
        """A slab was sent with its promise; all NACKs of a first round will have come by `known_at`."""
        if source_rows == ROWS:
            self._open.append((slab, promised, known_at))

    def settle(self, demand: Callable[[int], Sequence[int]], now: float) -> None:
        """Learn from the slabs that are over; `demand(slab)`: symbols per column that were asked for beyond its promise."""
        while self._open and self._open[0][2] <= now:
            slab, promised, _ = self._open.popleft()
            self.learn(promised, demand(slab))

    def learn(self, promised: int, asked: Sequence[int]) -> None:
        """One slab is over: `asked` symbols per column beyond the `promised` ones."""
        for j in range(promised, MAX_PROMISED):
            self._known[j] = self._known[j] * MEMORY + COLUMNS
            self._below[j] = self._below[j] * MEMORY + sum(promised + a <= j for a in asked)
        if promised < MAX_PROMISED:
            self._drift(promised)
        if any(asked):
            self._quiet = 0
        elif 0 < promised <= self.rows:
            self._note_quiet(promised)
        self.rows = self._largest()

    def _drift(self, promised: int) -> None:
        limit = self._share(promised)
        for j in range(promised):
            self._below[j] += (limit * self._known[j] - self._below[j]) * DRIFT

    def _note_quiet(self, promised: int) -> None:
        self._quiet += 1
        if self._quiet >= QUIET_SLABS:
            self._quiet = 0
            for j in range(promised // 2, MAX_PROMISED):
                self._known[j] = self._below[j] = GUESS_COLUMNS

    def _share(self, j: int) -> float:
        return self._below[j] / self._known[j]

    def _largest(self) -> int:
        """F never falls with j, and that of a maximum of binomials is log-concave, F(j) <= F(j+1)² / F(j+2): what is
        found further up corrects what was learnt below it long ago, or never well."""
        above, further, waste, shares = 1.0, 1.0, 0.0, []
        for j in reversed(range(MAX_PROMISED)):
            concave = above * above / further if further else 0.0
            above, further = min(above, concave, self._share(j)), above
            shares.append(above)
        # A few need no sparing.
        allowed = WASTE * min(1.0, self.receivers / MANY)
        for rows, share in enumerate(reversed(shares)):
            waste += share
            if waste > allowed:
                return rows
        return MAX_PROMISED
