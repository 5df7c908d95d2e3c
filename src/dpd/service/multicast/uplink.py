# SPDX-License-Identifier: Apache-2.0
"""How the streams of all sessions share the uplink: max-min fair by what each of them shows that it can use.

A stream that sends as fast as it may wants more, up to its session's ceiling. One that is slower, since its receivers
are, wants a little more than it sends; one without receivers wants nothing. What is left goes to those who want more, in
equal parts. First the sessions share the uplink, then the streams of each session its part, so that a session gains
nothing by having many streams. The rates given out never sum to more than the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

INTERVAL_S = 0.1  # between two looks
WINDOW_S = 0.5  # over which a stream is measured: a receiver that stores in bursts is as fast as it is on average
FULL = 0.85  # of its rate: a stream that sends so much could send more
HEADROOM = 1.25  # over what a slower one sends, so that it shows when it wants more
SAMPLE_BYTES = 16 * 46_000  # sixteen trains: what is measured is then right within 6 %
IDLE_SHARE = 0.01  # of the ceiling, kept for a stream that begins to send before the next look


class SharedStream(Protocol):
    """What a stream shows of itself, and how it is told its part."""

    @property
    def wire_bytes(self) -> int: ...
    @property
    def is_wanting(self) -> bool: ...
    def set_rate(self, rate_bit_s: float) -> None: ...


class SharedSession(Protocol):
    """A session with its own ceiling in bit/s, 0 for none."""

    @property
    def rate_bit_s(self) -> float: ...
    @property
    def live_streams(self) -> Sequence[SharedStream]: ...


@dataclass(slots=True)
class _Meter:
    """What one stream sent lately, and the rate it has."""

    wire_bytes: int = 0
    looked_at: float = 0.0
    rate_bit_s: float = -1.0
    demand_bit_s: float = math.inf

    def measure(self, stream: SharedStream, now: float) -> float:
        """What it could use, in bit/s; infinity where only its rate holds it."""
        sent, elapsed_s = stream.wire_bytes - self.wire_bytes, now - self.looked_at
        if not stream.is_wanting:
            self.demand_bit_s = 0.0
        elif self.demand_bit_s == 0.0:  # it has begun since the last look
            self.demand_bit_s = math.inf
        elif elapsed_s >= self._window_s():
            used = sent * 8 / elapsed_s
            is_held_by_rate = self.rate_bit_s > 0 and used >= FULL * self.rate_bit_s
            self.demand_bit_s = math.inf if is_held_by_rate or self.rate_bit_s <= 0 else used * HEADROOM
        else:
            return self.demand_bit_s
        self.wire_bytes, self.looked_at = stream.wire_bytes, now
        return self.demand_bit_s

    def _window_s(self) -> float:
        """Long enough for the grain of the trains not to matter."""
        grain_s = SAMPLE_BYTES * 8 / self.rate_bit_s if self.rate_bit_s > 0 else 0.0
        return max(WINDOW_S, grain_s)

    def differs(self, rate_bit_s: float) -> bool:
        """Whether it is to be told: a percent is not worth a word, but for what has no ceiling yet."""
        return self.rate_bit_s < 0 or abs(rate_bit_s - self.rate_bit_s) > 0.01 * min(rate_bit_s, self.rate_bit_s)

    def grows(self, rate_bit_s: float) -> bool:
        """Whether that is more than it has; 0 is no ceiling."""
        return (rate_bit_s or math.inf) > (self.rate_bit_s if self.rate_bit_s > 0 else math.inf)


class Uplink:
    """The ceiling of all sessions together, in bit/s; 0 is none."""

    def __init__(self, rate_bit_s: float) -> None:
        self.rate_bit_s = rate_bit_s
        self._meters: dict[SharedStream, _Meter] = {}

    def first_rate(self, ceiling_bit_s: float, speed_class: int = 0) -> float:
        """What a new stream may send until it gets its part, so that the sum is kept meanwhile: little of the uplink, and
        little of its session's ceiling (0: none) where that is shared with faster classes."""
        own = ceiling_bit_s * IDLE_SHARE if speed_class else ceiling_bit_s
        least = self.rate_bit_s * IDLE_SHARE
        return min(least, own) if least and own else least or own

    def share_out(self, sessions: Iterable[SharedSession], now: float) -> None:
        """Measure, divide, tell each stream whose part has changed: first those who get less."""
        rates: dict[SharedStream, float] = {}
        wanted: list[tuple[SharedSession, list[float]]] = []
        for session in sessions:
            wanted.append((session, [self._meter(s).measure(s, now) for s in session.live_streams]))
        for (session, demands), part in zip(wanted, self._parts(wanted), strict=True):
            streams = session.live_streams
            for stream, rate in zip(streams, _divide_or_free(part, demands), strict=False):
                rates[stream] = rate
        self._tell(rates)

    def _meter(self, stream: SharedStream) -> _Meter:
        return self._meters.setdefault(stream, _Meter())

    def _parts(self, wanted: Sequence[tuple[SharedSession, list[float]]]) -> list[float]:
        """Each session's part of the uplink; 0 where nothing holds it."""
        ceilings = [session.rate_bit_s for session, _ in wanted]
        if not self.rate_bit_s:
            return ceilings
        caps = [ceiling or math.inf for ceiling in ceilings]
        demands = [min(sum(demands), cap) for (_, demands), cap in zip(wanted, caps, strict=True)]
        return divide(self.rate_bit_s, demands, caps)

    def _tell(self, rates: dict[SharedStream, float]) -> None:
        """Those who get less first, so that the sum is kept meanwhile too."""
        self._meters = {stream: meter for stream, meter in self._meters.items() if stream in rates}
        changed = [each for each in rates.items() if self._meter(each[0]).differs(each[1])]
        for stream, rate in sorted(changed, key=lambda each: self._meter(each[0]).grows(each[1])):
            self._meter(stream).rate_bit_s = rate
            stream.set_rate(rate)


def _divide_or_free(part_bit_s: float, demands: list[float]) -> list[float]:
    return divide(part_bit_s, demands, [math.inf] * len(demands)) if part_bit_s else [0.0] * len(demands)


def divide(total: float, demands: Sequence[float], caps: Sequence[float]) -> list[float]:
    """Parts of `total`: max-min fair by demand; what nobody demands goes in equal parts to those who demand anything, up
    to their caps. Those who demand nothing get IDLE_SHARE of it between them all."""
    idle = [demand <= 0 for demand in demands]
    reserve = total * IDLE_SHARE / sum(idle) if any(idle) else 0.0
    if all(idle):
        return [total / len(demands) for _ in demands]
    left = total - reserve * sum(idle)
    parts = fair_parts(left, demands)
    spare = left - sum(parts)
    more = fair_parts(
        spare, [0.0 if none else max(cap - part, 0.0) for cap, part, none in zip(caps, parts, idle, strict=True)]
    )
    return [reserve if none else part + extra for part, extra, none in zip(parts, more, idle, strict=True)]


def fair_parts(total: float, demands: Sequence[float]) -> list[float]:
    """Max-min fair: nobody gets more than it demands, and nobody could get more but from one who has less."""
    parts = [0.0] * len(demands)
    left = max(total, 0.0)
    order = sorted(range(len(demands)), key=demands.__getitem__)
    for rank, index in enumerate(order):
        parts[index] = min(demands[index], left / (len(order) - rank))
        left -= parts[index]
    return parts
