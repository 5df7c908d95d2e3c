# SPDX-License-Identifier: Apache-2.0
"""When a receiver asks for what it lacks: slabs whose stream has passed with symbols missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_RETRY_S = 0.02
MAX_RETRY_S = 1.0


@dataclass(slots=True)
class _Gap:
    due: float
    retry_s: float = FIRST_RETRY_S


class Gaps:
    """Slabs to ask for, each with its time; one that gets no answer is asked for again, ever more slowly."""

    def __init__(self) -> None:
        self._gaps: dict[int, _Gap] = {}

    def __contains__(self, slab: int) -> bool:
        return slab in self._gaps

    def ask(self, slab: int, at: float) -> None:
        """Ask for this slab at that time, as if for the first time."""
        self._gaps[slab] = _Gap(at)

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

    def next_due(self) -> float:
        """When the next one is to be asked for; infinity where there is none."""
        return min((gap.due for gap in self._gaps.values()), default=math.inf)
