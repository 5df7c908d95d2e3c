# SPDX-License-Identifier: Apache-2.0
"""How fast a sender may go: a token bucket for its ceiling, credit for what its receivers can hold.

The bucket keeps the operator's ceiling. Credit keeps the sender from overrunning a socket buffer: a representative
receiver says how many symbols its buffer holds and what it has seen, and the sender stays within that of the slowest one
in good standing. Nobody can stop the session for long: who makes no progress for STALL_S loses that standing until the
next report that shows progress. Congestion control will be a second user of `TokenBucket.set_rate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STALL_S = 1.0


class TokenBucket:
    """A ceiling in bit/s on the wire; a rate of 0 is no ceiling. One train may always leave a full bucket."""

    def __init__(self, rate_bit_s: float, depth_bytes: int, now: float) -> None:
        self._depth = depth_bytes
        self._level = float(depth_bytes)
        self._filled_at = now
        self.rate_bit_s = rate_bit_s

    def set_rate(self, rate_bit_s: float, now: float) -> None:
        """Change the ceiling; what was earned at the old rate is kept."""
        self._fill(now)
        self.rate_bit_s = rate_bit_s

    def ready_at(self, now: float) -> float:
        """When the next train may leave: `now` or later. Debt of the train before is paid first."""
        if not self.rate_bit_s:
            return now
        self._fill(now)
        return now if self._level >= 0 else now - self._level * 8 / self.rate_bit_s

    def spend(self, size_bytes: int) -> None:
        """Account for bytes sent."""
        if self.rate_bit_s:
            self._level -= size_bytes

    def _fill(self, now: float) -> None:
        earned = (now - self._filled_at) * self.rate_bit_s / 8
        self._level = min(self._level + earned, self._depth)
        self._filled_at = now


@dataclass(slots=True)
class Credit:
    """What one receiver's socket buffer can take: at most `limit` symbols sent and not yet seen."""

    limit: int
    seen: int
    moved_at: float
    is_standing: bool = True

    def update(self, seen: int, now: float) -> None:
        """A report says that everything up to `seen` has been taken out of the buffer."""
        if seen > self.seen:
            self.seen, self.moved_at, self.is_standing = seen, now, True

    def allows(self, next_seq: int, now: float) -> bool:
        """Whether symbol `next_seq` still fits; withdraws the standing of one who blocked for STALL_S."""
        if next_seq - self.seen <= self.limit or not self.is_standing:
            return True
        if now - self.moved_at > STALL_S:
            self.is_standing = False
            return True
        return False


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
