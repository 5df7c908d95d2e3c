# SPDX-License-Identifier: Apache-2.0
"""How fast a sender may go: a token bucket for its ceiling, credit for what its receivers can hold, and for how long a
slow one may keep the others.

The bucket keeps the operator's ceiling. Credit keeps the sender from overrunning a socket buffer: a representative
receiver says how many symbols may be under way to it (its window: what its buffer and the network hold) and what it has
seen, and the sender stays within that of the slowest one that it waits for. `Standing` decides whether it waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.train import train_symbols

PEAK = 2.0  # times the rate, for as long as a late wake-up is made good
MIN_CREDIT = 2 * COLUMNS  # a train under way and one to come, or the sender could never send
STALL_S = 1.0
# What a receiver earns of waiting time while nobody waits for it: one that is 80 % as fast as the others, or faster, is
# waited for always; the others never lose more than a fifth of their speed to one slower than that.
WAIT_SHARE = 0.25


class TokenBucket:
    """A ceiling in bit/s on the wire; a rate of 0 is no ceiling. One train may always leave a full bucket.

    What a late wake-up left unsent, up to `depth_bytes`, is made good at PEAK times the rate and not at once.
    """

    def __init__(self, rate_bit_s: float, depth_bytes: int, now: float) -> None:
        self._depth = depth_bytes
        self._level = float(depth_bytes)
        self._filled_at = now
        self._next_at = now  # not before, or trains would leave faster than PEAK times the rate
        self.rate_bit_s = rate_bit_s
        self.train_symbols = train_symbols(rate_bit_s)

    def set_rate(self, rate_bit_s: float, now: float) -> None:
        """Change the ceiling; what was earned at the old rate is kept."""
        self._fill(now)
        self.rate_bit_s = rate_bit_s
        self.train_symbols = train_symbols(rate_bit_s)
        self._next_at = now

    def ready_at(self, now: float) -> float:
        """When the next train may leave: `now` or later. Debt of the train before is paid first."""
        if not self.rate_bit_s:
            return now
        self._fill(now)
        at = now if self._level >= 0 else now - self._level * 8 / self.rate_bit_s
        return at if at > self._next_at else self._next_at

    def spend(self, size_bytes: int) -> None:
        """Account for bytes sent."""
        if self.rate_bit_s:
            self._level -= size_bytes
            self._next_at = max(self._next_at, self._filled_at) + size_bytes * 8 / (self.rate_bit_s * PEAK)

    def _fill(self, now: float) -> None:
        earned = (now - self._filled_at) * self.rate_bit_s / 8
        self._level = min(self._level + earned, self._depth)
        self._filled_at = now


@dataclass(slots=True)
class Credit:
    """What one receiver's socket buffer can take: at most `limit` symbols sent and not yet seen."""

    limit: int
    seen: int

    def update(self, seen: int) -> bool:
        """A report says that everything up to `seen` has been taken out of the buffer. True: that is more than before."""
        if seen <= self.seen:
            return False
        self.seen = seen
        return True

    def allows(self, last_seq: int) -> bool:
        """Whether everything up to symbol `last_seq` fits."""
        return last_seq - self.seen <= self.limit


@dataclass(slots=True)
class Standing:
    """Whether the session waits for one receiver that has no room.

    Without progress it is waited for once, for STALL_S, until it shows progress again. With progress, but slower than
    others who could go on, it has STALL_S of their time, which grows again by WAIT_SHARE while nobody waits for it. Where
    nobody could go on, waiting costs it nothing: the session then goes as fast as its receivers.
    """

    left_s: float = STALL_S
    stalled_s: float = 0.0  # waited for it since it last showed progress
    _looked_at: float = 0.0

    def progress(self) -> None:
        """Something was seen or stored."""
        self.stalled_s = 0.0

    @property
    def is_hopeless(self) -> bool:
        """Waited for as long as it may be, and nothing came of it."""
        return self.stalled_s >= STALL_S

    def waits(self, since: float, now: float, is_shared: bool) -> bool:
        """Whether to wait for it now, when it has no room. `since`: the look before, if the session has waited since then,
        else `now`; `is_shared`: no other receiver could go on either."""
        if self._looked_at < since:  # it had room at the look before, or was not waited for
            self.left_s = min(STALL_S, self.left_s + (since - self._looked_at) * WAIT_SHARE)
        else:
            self.stalled_s += now - since
            if not is_shared:
                self.left_s -= now - since
        self._looked_at = now
        return self.stalled_s < STALL_S and (is_shared or self.left_s > 0)


@dataclass(slots=True)
class RoundTrip:
    """Smoothed round-trip time in seconds, from echoed send times (RFC 6298 weights)."""

    smoothed_s: float = 0.0
    _seen: bool = field(default=False, repr=False)

    def update(self, sample_s: float) -> None:
        if not self._seen:
            self.smoothed_s, self._seen = sample_s, True
        else:
            self.smoothed_s += (sample_s - self.smoothed_s) / 8
