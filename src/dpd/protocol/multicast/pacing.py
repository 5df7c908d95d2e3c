# SPDX-License-Identifier: Apache-2.0
"""How fast a sender may go: a token bucket for its ceiling, credit for what its receivers can hold, and for how long a
slow one may keep the others.

The bucket keeps the operator's ceiling. Credit keeps the sender from overrunning a socket buffer: a representative
receiver says how many symbols may be under way to it (its window: what its buffer and the network hold) and what it has
seen, and the sender stays within that of the slowest one that it waits for. `Standing` and `Allowance` decide whether
it waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.train import train_rows, train_symbols

PEAK = 2.0  # times the rate, for as long as a late wake-up is made good
CATCH_UP_S = 0.01  # of a late wake-up that is made good: what a busy machine does to a thread; more is lost
FIRST_CREDIT = (
    1024  # before a receiver has told its window; a whole socket buffer at once lost 5400 symbols at 100 Mbit/s
)
MIN_CREDIT = 2 * COLUMNS  # a train under way and one to come, or the sender could never send
STALL_S = 1.0
# What is earned of waiting time while nobody is waited for: a receiver that is 95 % as fast as the others is waited for
# always; with 0.25 one that writes at 20 MB/s took 27 % from seven others at 1 Gbit/s, and with this 8.
WAIT_SHARE = 0.05


class TokenBucket:
    """A ceiling in bit/s on the wire; a rate of 0 is no ceiling. One train may always leave a full bucket.

    What a late wake-up left unsent, up to `depth_bytes` and up to CATCH_UP_S, is made good at PEAK times the rate and not at
    once.
    """

    def __init__(self, rate_bit_s: float, depth_bytes: int, now: float) -> None:
        self._least_depth = depth_bytes
        self._level = float(depth_bytes)
        self._filled_at = now
        self._next_at = now  # not before, or trains would leave faster than PEAK times the rate
        self.rate_bit_s = rate_bit_s
        self.train_symbols, self.train_rows = train_symbols(rate_bit_s), train_rows(rate_bit_s)

    def set_rate(self, rate_bit_s: float, now: float) -> None:
        """Change the ceiling; what was earned at the old rate is kept."""
        self._fill(now)
        self.rate_bit_s = rate_bit_s
        self.train_symbols, self.train_rows = train_symbols(rate_bit_s), train_rows(rate_bit_s)
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
        self._level = min(self._level + earned, max(self._least_depth, self.rate_bit_s * CATCH_UP_S / 8))
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
    """Whether one receiver that has no room shows progress. Without any it is waited for once, for STALL_S."""

    stalled_s: float = 0.0  # waited for it since it last showed progress

    def progress(self) -> None:
        """Something was seen or stored."""
        self.stalled_s = 0.0

    @property
    def is_hopeless(self) -> bool:
        """Waited for as long as it may be, and nothing came of it."""
        return self.stalled_s >= STALL_S

    def waits(self, waited_s: float) -> bool:
        """Whether to wait for it (any longer), after so many seconds since the last look."""
        self.stalled_s += waited_s
        return not self.is_hopeless


class Allowance:
    """How much time the session may take from those who could go on, to wait for those who cannot: STALL_S at first and
    at most, growing by WAIT_SHARE of the time in which nobody is waited for. It is one for all: any number of slow
    receivers costs the others no more than a second and a twentieth of their time. Where nobody could go on, waiting costs
    nothing: the session then goes as fast as its receivers.
    """

    def __init__(self) -> None:
        self.left_s = STALL_S
        self._looked_at = 0.0

    def earn(self, now: float) -> None:
        """Nobody was waited for since the last look."""
        self.left_s = min(STALL_S, self.left_s + (now - self._looked_at) * WAIT_SHARE)
        self._looked_at = now

    def spend(self, waited_s: float, now: float) -> None:
        """Others were kept for so long."""
        self.left_s -= waited_s
        self._looked_at = now


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
