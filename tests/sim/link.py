# SPDX-License-Identifier: Apache-2.0
"""A network path is a list of elements; each takes what is under way and gives on what is left of it, and when."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

Flight = list[tuple[float, bytes]]  # (time, datagram)


class Element(Protocol):
    """One thing that happens on a path."""

    def carry(self, flight: Flight, rng: random.Random) -> Flight: ...


def carry(path: Sequence[Element], datagrams: Sequence[bytes], now: float, rng: random.Random) -> Flight:
    """Send datagrams along a path; the result is (arrival time, datagram)."""
    flight = [(now, d) for d in datagrams]
    for element in path:
        flight = element.carry(flight, rng)
    return flight


@dataclass
class Delay:
    """Everything arrives `delay_s` later."""

    delay_s: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [(time + self.delay_s, d) for time, d in flight]


@dataclass
class Loss:
    """Each datagram is lost with probability `share`, independently."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [entry for entry in flight if rng.random() >= self.share]


@dataclass
class BurstLoss:
    """Gilbert-Elliott: losses come in runs of `burst` on average, `share` of all datagrams overall."""

    share: float
    burst: float
    _is_bad: bool = False

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        begin = self.share / (self.burst * (1 - self.share))
        kept = []
        for entry in flight:
            self._is_bad = rng.random() >= 1 / self.burst if self._is_bad else rng.random() < begin
            if not self._is_bad:
                kept.append(entry)
        return kept


@dataclass
class TrainLoss:
    """A whole train is lost with probability `share`."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [] if rng.random() < self.share else flight


@dataclass
class Upstream:
    """A share of the datagrams is lost before the network branches: what one receiver misses, all miss. Which ones, the
    datagrams themselves decide, so that the elements of several paths lose the same."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [entry for entry in flight if zlib.crc32(entry[1]) >= self.share * 2**32]


@dataclass
class Truncate:
    """A share of the datagrams is cut short."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [(t, d[: rng.randrange(len(d))] if rng.random() < self.share else d) for t, d in flight]


@dataclass
class Reorder:
    """A share of the datagrams is late by up to `late_s`."""

    share: float
    late_s: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [(t + rng.random() * self.late_s if rng.random() < self.share else t, d) for t, d in flight]


@dataclass
class Duplicate:
    """A share of the datagrams arrives twice."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [entry for entry in flight for _ in range(2 if rng.random() < self.share else 1)]


@dataclass
class BitFlip:
    """A share of the datagrams has one bit changed, past what a UDP checksum catches."""

    share: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [(t, _flip(d, rng) if rng.random() < self.share else d) for t, d in flight]


def _flip(datagram: bytes, rng: random.Random) -> bytes:
    changed = bytearray(datagram)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@dataclass
class Rate:
    """A port of `rate_bit_s` with a queue of `queue_bytes`: beyond it the tail is dropped. Takes what comes in order of
    time: put it before what reorders."""

    rate_bit_s: float
    queue_bytes: int
    _free_at: float = field(default=0.0)

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed = []
        for time, datagram in flight:
            start = max(time, self._free_at)
            if (start - time) * self.rate_bit_s / 8 <= self.queue_bytes:
                self._free_at = start + len(datagram) * 8 / self.rate_bit_s
                passed.append((self._free_at, datagram))
        return passed


@dataclass
class Outage:
    """Nothing passes between two times."""

    begin_s: float
    end_s: float

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        return [(t, d) for t, d in flight if not self.begin_s <= t < self.end_s]
