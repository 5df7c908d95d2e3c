# SPDX-License-Identifier: Apache-2.0
"""What keeps a job from running though it is its turn: maintenance, and the hours in which content may move."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from dpd.distribution.jobs.job import BRINGING, NEW_CONTENT, Job, JobKind, JobPostponed, Priority
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.ports import AlwaysOpen, Gate

_LOOK_INTERVAL_S = 1.0


class Held:
    """What holds jobs at one moment, asked once for each kind and priority."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._whys: dict[tuple[JobKind, Priority], str] = {}
        self._opens_in_s: dict[tuple[JobKind, Priority], float] = {}

    def why(self, job: Job) -> str:
        """As `Holds.why`."""
        key = job.kind, job.priority
        if key not in self._whys:
            self._whys[key] = self._holds.why(job)
        return self._whys[key]

    def opens_in_s(self, job: Job) -> float:
        """As `Holds.opens_in_s`."""
        key = job.kind, job.priority
        if key not in self._opens_in_s:
            self._opens_in_s[key] = self._holds.opens_in_s(job)
        return self._opens_in_s[key]


class Holds:
    """Asked of each job anew, so nothing of it is kept: a hold that ends needs nobody to end it. Any thread."""

    def __init__(
        self,
        maintenance: Maintenance,
        gate: Gate | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.maintenance = maintenance
        self._clock, self._monotonic = clock, monotonic
        self.gate = gate or AlwaysOpen()

    @property
    def gate(self) -> Gate:
        """The hours; another may be set at any time."""
        return self._gate

    @gate.setter
    def gate(self, gate: Gate) -> None:
        self._gate = gate
        self._openings: dict[Priority, tuple[float, float]] = {}  # (asked at, opens at), since 10,000 jobs ask the same

    def why(self, job: Job) -> str:
        """In words; "" where nothing holds it."""
        if job.kind in NEW_CONTENT and self.maintenance.reason:
            return f"maintenance: {self.maintenance.reason}"
        if job.kind in BRINGING and not self._gate.allows(job.priority, self._clock()):
            return f"the hours are closed for priority {job.priority.name.lower()}"
        return ""

    def opens_in_s(self, job: Job) -> float:
        """Seconds until what holds it ends by itself; infinite where that is not known."""
        if job.kind in NEW_CONTENT and self.maintenance.reason:
            return math.inf
        if job.kind not in BRINGING:
            return 0.0
        now = self._clock()
        asked_at, opens_at = self._openings.get(job.priority, (now, -math.inf))
        if not asked_at <= now < opens_at:
            next_opening = self._gate.opens_at(job.priority, now)
            opens_at = math.inf if next_opening is None else next_opening
            self._openings[job.priority] = now, opens_at
        return max(0.0, opens_at - now)

    def as_of_now(self) -> Held:
        """For many jobs at one moment."""
        return Held(self)

    def watch(self, job: Callable[[], Job]) -> Callable[[], None]:
        """For a job that runs: raises JobPostponed when it is held from now on; looks once a second."""
        look_at = self._monotonic() + _LOOK_INTERVAL_S

        def look() -> None:
            nonlocal look_at
            if (now := self._monotonic()) < look_at:
                return
            look_at = now + _LOOK_INTERVAL_S
            if why := self.why(job()):
                raise JobPostponed(why)

        return look
