# SPDX-License-Identifier: Apache-2.0
"""When to send again: the round-trip estimate of RFC 6298 with bounds that suit boot firmware.

A lost datagram costs the wait for its repetition, and every other server waits a second. So the interval follows the round
trip down to twenty milliseconds, and to five once something had to be repeated and enough round trips were short; firmware
that polls its card slowly has shown slow ones before. What is sent needlessly that way is one datagram. Before the first
round trip there is `first_s` to go by, for one repetition: what this client has shown in an earlier transfer, or a guess.
Patience is another matter: a client is given up only after `attempts` repetitions at intervals of `initial_s` and more,
however many quick ones went before.
"""

from __future__ import annotations

MIN_INTERVAL_S = 0.02  # a busy server's turn of the loop and a firmware's poll of its card (10 ms) stay below
# One lost block in a hundred of lock-step: 20 ms are 200 us for each block, which takes 20; 5 ms are 50.
LOSSY_INTERVAL_S = 0.005
LOSSY_SAMPLES = 8
MAX_INTERVAL_S = 4.0  # EDK2 itself asks again after 4 s
MIN_QUIET_S = 0.002
UNKNOWN_QUIET_S = 0.2
MAX_DOUBT_S = 0.2


class RetransmissionTimer:
    """Interval between retransmissions: `initial_s` until a round trip was seen, then adaptive, doubled at each one.
    `settled_s` is the interval while nothing is lost, `least_s` the shortest round trip so far."""

    __slots__ = (
        *(
            "_attempts",
            "_ceiling_s",
            "_first_s",
            "_floor_s",
            "_initial_s",
            "_samples",
            "_srtt_s",
            "_tries",
            "_variation_s",
        ),
        *("backed_off", "least_s", "settled_s"),
    )

    def __init__(self, initial_s: float, attempts: int, first_s: float | None = None) -> None:
        self.backed_off = 0
        self._first_s = initial_s if first_s is None else min(first_s, initial_s)
        self._floor_s = min(max(self._first_s, LOSSY_INTERVAL_S), MIN_INTERVAL_S)
        self._samples = 0
        self.settled_s = self.least_s = initial_s
        self._attempts, self._initial_s = attempts, initial_s
        self._tries = 0
        self._ceiling_s = max(MAX_INTERVAL_S, initial_s)
        self._srtt_s: float | None = None
        self._variation_s = 0.0

    def sample(self, rtt_s: float) -> None:
        """A round trip that was not disturbed by a retransmission (Karn's rule is the caller's)."""
        self.least_s = min(self.least_s, rtt_s)
        self._samples += 1
        if self._srtt_s is None:
            self._srtt_s, self._variation_s = rtt_s, rtt_s / 2
        else:
            self._variation_s += (abs(rtt_s - self._srtt_s) - self._variation_s) / 4
            self._srtt_s += (rtt_s - self._srtt_s) / 8
        self.settled_s = min(max(self._srtt_s + 4 * self._variation_s, self._floor_s), self._ceiling_s)

    def doubt(self, elapsed_s: float) -> None:
        """A repetition was needless: both copies were answered, the first so long after it had left. A client that is now and
        then away for longer than the interval is waited for longer. To be told by the second answer alone: taken from each
        repetition, losses in a row made the interval grow to 400 ms, for 32 clients in lock-step at 1 % loss."""
        self.sample(min(elapsed_s, MAX_DOUBT_S))

    def assume(self) -> None:
        """The first answer came to one of two copies: the round trip is not known, but is no reason for `initial_s`."""
        if self._srtt_s is None and self._first_s < self._initial_s:
            self.sample(self._first_s / 2)

    @property
    def known_s(self) -> float | None:
        """The interval, once it follows a round trip."""
        return None if self._srtt_s is None else self.settled_s

    def progress(self) -> None:
        """The peer got on; the next loss starts to count afresh."""
        self.backed_off = self._tries = 0

    def back_off(self) -> bool:
        """One more retransmission; False once all attempts are used up."""
        self._tries += self.interval_s() >= min(self._initial_s, self._ceiling_s)
        self.backed_off += 1
        if self._samples >= LOSSY_SAMPLES:
            self._floor_s = LOSSY_INTERVAL_S
        return self._tries <= self._attempts

    def interval_s(self) -> float:
        """How long to wait for an answer to what was sent just now."""
        if self._srtt_s is None and self._first_s < self._initial_s:
            return (
                min(self._initial_s * 2.0 ** (self.backed_off - 1), self._ceiling_s)
                if self.backed_off
                else self._first_s
            )
        return min(self.settled_s * 2.0**self.backed_off, self._ceiling_s)

    def quiet_s(self) -> float:
        """How long an answer to what was just restarted may take at most on an undisturbed way."""
        return max(2 * self._srtt_s, MIN_QUIET_S) if self._srtt_s is not None else UNKNOWN_QUIET_S
