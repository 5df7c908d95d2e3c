# SPDX-License-Identifier: Apache-2.0
"""When a receiver asks for what it lacks: slabs whose stream has passed with symbols missing.

A *round* begins when the stream, or a burst of repairs, has left a slab with gaps. Within it the question waits for a
random time, for parity that was promised, and for what an NCF announces; each can put it off once, and all of them
together not beyond the round's `latest`, so that forged ones cost one round at most. Then it is asked, and repeated ever
more slowly until repairs bring progress, which begins the next round.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

FIRST_RETRY_S = 0.02
MAX_RETRY_S = 1.0


def random_backoff(rng: random.Random, longest_s: float, group_size: int) -> float:
    """RFC 5401, 4.2: a truncated exponential distribution; few of a group ask early, and the rest can be spared. Whoever
    is alone has nobody to wait for."""
    if group_size <= 1:
        return 0.0
    rate = math.log(group_size) + 1
    return longest_s / rate * math.log1p(rng.random() * math.expm1(rate))


@dataclass(slots=True)
class _Gap:
    due: float
    latest: float
    lacking: int  # symbols of the slab, when the round began or when it was last asked for
    retry_s: float = FIRST_RETRY_S
    asked_at: float | None = None  # in this round
    is_put_off: bool = False  # by an NCF, in this round
    is_waiting: bool = False  # longer than the back-off, for what was promised or announced


class Gaps:
    """Slabs to ask for, each with its time."""

    def __init__(self) -> None:
        self._gaps: dict[int, _Gap] = {}
        self._answer_s = 0.0  # from a question to the end of its repairs, smoothed

    def __contains__(self, slab: int) -> bool:
        return slab in self._gaps

    def patience_s(self, nack_s: float) -> float:
        """How long an answer may take: 2 x (round trip + back-off), FIRST_RETRY_S at least."""
        return min(max(2 * (self._answer_s + nack_s), FIRST_RETRY_S), MAX_RETRY_S)

    def ask(
        self, slab: int, now: float, wait_s: float, patience_s: float, lacking: int, is_promised: bool = False
    ) -> None:
        """The slab has been left with `lacking` symbols missing: ask after `wait_s`, or `patience_s` later where all of it
        `is_promised`. What is put off, is so by another `patience_s` at most.

        Who has not asked yet keeps its time when a burst of repairs ends: if everybody drew anew, nobody would be early
        enough to spare the others their questions (1000 receivers, 1 %: 1444 NACKs/s instead of 234).
        """
        gap = self._gaps.get(slab)
        if gap is None or (gap.asked_at is not None and lacking < gap.lacking):
            if gap is not None and gap.asked_at is not None:
                self._answer_s += (min(now - gap.asked_at, MAX_RETRY_S) - self._answer_s) / 8
            due = now + wait_s + (patience_s if is_promised else 0.0)
            self._gaps[slab] = _Gap(due, due + patience_s, lacking, is_waiting=is_promised)
        elif gap.asked_at is None:
            gap.due = min(gap.due, now + wait_s) if gap.is_waiting else gap.due
        else:  # repairs for others, or forged ones: no reason to begin anew, but to ask again soon
            gap.due = min(gap.due, max(now + wait_s, gap.asked_at + FIRST_RETRY_S))

    def put_off(self, slab: int, now: float, patience_s: float) -> bool:
        """An NCF announces all that the slab lacks: wait for it, once in a round. True: that spares a question."""
        gap = self._gaps.get(slab)
        if gap is None or gap.is_put_off:
            return False
        gap.is_put_off = gap.is_waiting = True
        if gap.asked_at is not None:
            gap.due = max(gap.due, now + patience_s)
            return False
        gap.due = max(gap.due, min(now + patience_s, gap.latest))
        return True

    def let_come(self, slab: int, now: float, wait_s: float, lacking: int) -> None:
        """The slab is still being sent: as long as it fills there is nothing to ask. Its end was damaged or forged."""
        gap = self._gaps.get(slab)
        if gap is not None and gap.asked_at is None and gap.due <= now and lacking < gap.lacking:
            gap.latest += now + wait_s - gap.due
            gap.due, gap.lacking = now + wait_s, lacking

    def drop(self, slab: int) -> None:
        """It is complete, or being sent."""
        self._gaps.pop(slab, None)

    def take_due(self, now: float, least_s: float, limit: int) -> list[int]:
        """The slabs to ask for now, at most `limit`; each is due again after its retry time, `least_s` or more."""
        due = [slab for slab, gap in self._gaps.items() if gap.due <= now][:limit]
        for slab in due:
            gap = self._gaps[slab]
            gap.due = now + max(gap.retry_s, least_s)
            gap.retry_s = min(gap.retry_s * 2, MAX_RETRY_S)
        return due

    def note_asked(self, slab: int, now: float, lacking: int) -> None:
        """The question has left, when the slab lacked so much."""
        gap = self._gaps[slab]
        gap.asked_at, gap.lacking = now, lacking

    def next_due(self) -> float:
        """When the next one is to be asked for; infinity where there is none."""
        return min((gap.due for gap in self._gaps.values()), default=math.inf)
