# SPDX-License-Identifier: Apache-2.0
"""Loss on the way to N receivers at once, as numpy draws it: which of the next symbols each of them misses.

A channel is asked for the losses among the symbols that are sent next, in the order in which they are sent, and keeps
its state between the questions: a burst that began in a row of one slab goes on into the repair behind it. The losses
come as pairs (receiver, position), since there are few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]
Losses = tuple[Numbers, Numbers]  # (receiver, position of the symbol among those asked about), of equal length
NONE: Numbers = np.zeros(0, np.int64)


class Channel(Protocol):
    """The way to `receivers` receivers."""

    receivers: int

    def lose(self, count: int) -> Losses:
        """What is lost of the next `count` symbols."""

    def skip(self, count: int) -> None:
        """`count` symbols pass whose fate nobody asks for."""


class Independent:
    """Each symbol is lost to each receiver by chance: `share` for all, or one share for each."""

    def __init__(self, receivers: int, share: float | Sequence[float], rng: np.random.Generator) -> None:
        self.receivers = receivers
        shares = np.broadcast_to(np.asarray(share, float), receivers)
        self._alike = [(float(each), np.flatnonzero(shares == each)) for each in np.unique(shares) if each > 0]
        self._rng = rng

    def lose(self, count: int) -> Losses:
        found = [self._lose(share, members, count) for share, members in self._alike]
        if len(found) == 1:
            return found[0]
        return _joined(found)

    def skip(self, count: int) -> None:
        """Symbols know nothing of each other."""

    def _lose(self, share: float, members: Numbers, count: int) -> Losses:
        places = _hits(share, len(members) * count, self._rng)
        return members[places // count], places % count


class Trains:
    """A train of `length` neighbours is lost whole with probability `share`: endpoints that cut trains at their port."""

    def __init__(self, receivers: int, share: float, rng: np.random.Generator, length: int = 32) -> None:
        self.receivers = receivers
        self._share, self._length, self._rng = share, length, rng

    def lose(self, count: int) -> Losses:
        trains = -(-count // self._length)
        places = _hits(self._share, self.receivers * trains, self._rng)
        firsts = places % trains * self._length
        positions = (firsts[:, None] + np.arange(self._length)).ravel()
        receivers = np.repeat(places // trains, self._length)
        inside = positions < count
        return receivers[inside], positions[inside]

    def skip(self, count: int) -> None:
        """Trains know nothing of each other."""


class Bursts:
    """Gilbert-Elliott, as `link.BurstLoss`: losses come in runs of `burst` on average, `share` of all symbols overall."""

    def __init__(self, receivers: int, share: float, burst: float, rng: np.random.Generator) -> None:
        self.receivers = receivers
        self._begin = share / (burst * (1 - share))
        self._end = 1 / burst
        self._rng = rng
        self._at = 0
        self._starts = rng.geometric(self._begin, receivers) - 1  # of the burst under way, or the next one
        self._ends = self._starts + rng.geometric(self._end, receivers)

    def lose(self, count: int) -> Losses:
        first, end = self._at, self._at + count
        self._at = end
        found: list[Losses] = []
        struck = np.flatnonzero(self._starts < end)
        while len(struck):
            starts, ends = self._starts[struck], self._ends[struck]
            found.append(_spread(struck, np.maximum(starts, first) - first, np.minimum(ends, end) - first))
            struck = struck[ends < end]
            self._draw(struck)
            struck = struck[self._starts[struck] < end]
        return _joined(found)

    def skip(self, count: int) -> None:
        self._at += count

    def _draw(self, receivers: Numbers) -> None:
        """The next burst of these."""
        self._starts[receivers] = self._ends[receivers] + self._rng.geometric(self._begin, len(receivers))
        self._ends[receivers] = self._starts[receivers] + self._rng.geometric(self._end, len(receivers))


class Upstream:
    """Loss before the network branches: what one receiver misses, all miss."""

    def __init__(self, receivers: int, share: float, rng: np.random.Generator) -> None:
        self.receivers = receivers
        self._share, self._rng = share, rng

    def lose(self, count: int) -> Losses:
        positions = np.flatnonzero(self._rng.random(count) < self._share)
        return np.repeat(np.arange(self.receivers), len(positions)), np.tile(positions, self.receivers)

    def skip(self, count: int) -> None:
        """Symbols know nothing of each other."""


def _hits(share: float, count: int, rng: np.random.Generator) -> Numbers:
    """Which of `count` trials succeed, in order: by the gaps between them, which are geometric."""
    found: list[Numbers] = []
    at = -1
    while at < count:
        expected = share * (count - at)
        gaps = rng.geometric(share, int(expected + 4 * expected**0.5 + 8))
        found.append(at + np.cumsum(gaps))
        at = int(found[-1][-1])
    hits = np.concatenate(found)
    return hits[: np.searchsorted(hits, count)]


def _spread(receivers: Numbers, starts: Numbers, ends: Numbers) -> Losses:
    """Each position from start to end - 1; an end before its start is an empty range."""
    lengths = np.maximum(ends - starts, 0)
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(receivers, lengths), np.repeat(starts, lengths) + offsets


def _joined(found: Sequence[Losses]) -> Losses:
    if not found:
        return NONE, NONE
    return np.concatenate([r for r, _ in found]), np.concatenate([p for _, p in found])
