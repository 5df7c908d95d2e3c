# SPDX-License-Identifier: Apache-2.0
"""When to send again: the round-trip estimate of RFC 6298 with bounds that suit boot firmware."""

from __future__ import annotations

MIN_INTERVAL_S = 0.2  # firmware polls its card by timer; below this a slow poll looks like loss
MAX_INTERVAL_S = 4.0  # EDK2 itself asks again after 4 s
MIN_QUIET_S = 0.002


class RetransmissionTimer:
    """Interval between retransmissions: `initial_s` until a round trip was seen, then adaptive, doubled at each one."""

    __slots__ = ("_attempts", "_backed_off", "_ceiling_s", "_interval_s", "_srtt_s", "_variation_s")

    def __init__(self, initial_s: float, attempts: int) -> None:
        self._attempts = attempts
        self._backed_off = 0
        self._ceiling_s = max(MAX_INTERVAL_S, initial_s)
        self._interval_s = initial_s
        self._srtt_s: float | None = None
        self._variation_s = 0.0

    def sample(self, rtt_s: float) -> None:
        """A round trip that was not disturbed by a retransmission (Karn's rule is the caller's)."""
        if self._srtt_s is None:
            self._srtt_s, self._variation_s = rtt_s, rtt_s / 2
        else:
            self._variation_s += (abs(rtt_s - self._srtt_s) - self._variation_s) / 4
            self._srtt_s += (rtt_s - self._srtt_s) / 8
        self._interval_s = min(max(self._srtt_s + 4 * self._variation_s, MIN_INTERVAL_S), self._ceiling_s)

    def progress(self) -> None:
        """The peer got on; the next loss starts to count afresh."""
        self._backed_off = 0

    def back_off(self) -> bool:
        """One more retransmission; False once all attempts are used up."""
        self._backed_off += 1
        return self._backed_off <= self._attempts

    def interval_s(self) -> float:
        """How long to wait for an answer to what was sent just now."""
        return min(self._interval_s * 2.0**self._backed_off, self._ceiling_s)

    def quiet_s(self) -> float:
        """How long an answer to what was just restarted may take at most on an undisturbed way."""
        return max(2 * self._srtt_s, MIN_QUIET_S) if self._srtt_s is not None else MIN_INTERVAL_S
