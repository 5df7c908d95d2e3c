# SPDX-License-Identifier: Apache-2.0
"""Open jobs that do not run, in their order: by what may hold them, so that ten thousand held ones cost as much as one.

Nothing of a hold is kept here, for it may begin or end at any moment: jobs of one lane have in common all that a hold asks
for, so who wants to know asks for one job of each lane.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from dpd.distribution.jobs.job import BRINGING, NEW_CONTENT, Job, Priority


@dataclass(frozen=True, slots=True)
class Standing:
    """The open jobs of one state: how many, and when the oldest was ordered (0 where there is none)."""

    jobs: int = 0
    oldest_at: float = 0.0


Lane = tuple[Priority, bool, bool]  # brings a package, brings new content


class Ids:
    """Numbers in their order. Inserting and taking out move memory, and are as good as constant below a million."""

    def __init__(self) -> None:
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted)

    @property
    def first(self) -> int:
        """The lowest; there must be one."""
        return self._sorted[0]

    def add(self, number: int) -> None:
        """One that is not among them."""
        insort(self._sorted, number)

    def remove(self, number: int) -> None:
        """One that is among them."""
        del self._sorted[bisect_left(self._sorted, number)]


class JobQueue:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._ready: dict[Lane, Ids] = {}
        self._lane_of: dict[int, Lane] = {}
        self._due_at: dict[int, float] = {}
        self._dues: list[tuple[float, int]] = []  # sorted
        self._waiting = Ids()
        self._jobs: dict[int, Job] = {}

    def put(self, job: Job, due_at: float | None = None) -> None:
        """It may run, or not before `due_at`; also one that is there already and has changed."""
        self.drop(job.id)
        self._jobs[job.id] = job
        if due_at is None:
            self._make_ready(job)
            return
        self._due_at[job.id] = due_at
        insort(self._dues, (due_at, job.id))
        self._waiting.add(job.id)

    def drop(self, id: int) -> None:
        """It runs, or has ended; nothing where it is not there."""
        if self._jobs.pop(id, None) is None:
            return
        lane = self._lane_of.pop(id, None)
        if lane is not None:
            self._ready[lane].remove(id)
            if not len(self._ready[lane]):
                del self._ready[lane]
            return
        due = self._due_at.pop(id), id
        del self._dues[bisect_left(self._dues, due)]
        self._waiting.remove(id)

    def ripen(self, now: float) -> None:
        """Who was due by now may run."""
        while self._dues and self._dues[0][0] <= now:
            job = self._jobs[self._dues[0][1]]
            self.put(job)

    def due_at(self, id: int) -> float | None:
        """When it may run; None where it may already, or is not there."""
        return self._due_at.get(id)

    @property
    def next_due_at(self) -> float | None:
        """When the next one may run of those that wait."""
        return self._dues[0][0] if self._dues else None

    @property
    def waiting(self) -> Ids:
        """Those that are not due yet."""
        return self._waiting

    def lanes(self) -> list[Ids]:
        """Those that are due, the most urgent lanes first."""
        return [self._ready[lane] for lane in sorted(self._ready)]

    def _make_ready(self, job: Job) -> None:
        lane = (job.priority, job.kind in BRINGING, job.kind in NEW_CONTENT)
        self._lane_of[job.id] = lane
        self._ready.setdefault(lane, Ids()).add(job.id)
