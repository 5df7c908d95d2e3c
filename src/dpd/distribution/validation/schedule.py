# SPDX-License-Identifier: Apache-2.0
"""When validation is due: times of the week in a named zone, as [library] validate lists them.

A time that the clock skips when summer begins counts as the moment an hour later; one that comes twice when summer ends
counts the first time. So each line is due exactly once in its day, whatever the clocks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from dpd.content_settings import DAYS, VALIDATION_LINE
from dpd.errors import SettingsError

_EVERY_DAY = frozenset(range(7))
_SPAN_DAYS = 8  # each line is due at least once in seven days; one more for the zone


@dataclass(frozen=True, slots=True)
class WeeklyTime:
    """One line: a time of day, and the days of the week (0 is Monday) on which it counts."""

    days: frozenset[int]
    at: time

    @classmethod
    def parse(cls, line: str) -> Self:
        """ "sun 02:00" or "daily 23:30". Raises SettingsError."""
        found = VALIDATION_LINE.fullmatch(line)
        if found is None:
            raise SettingsError(f'library.validate: {line!r}: expected a time such as "sun 02:00" or "daily 23:30"')
        days = _EVERY_DAY if found[1] == "daily" else frozenset({DAYS.index(found[1])})
        return cls(days, time(int(found[2]), int(found[3])))


class ValidationSchedule:
    """All lines together. Moments are seconds since the epoch."""

    def __init__(self, lines: tuple[str, ...], zone: str) -> None:
        self._times = [WeeklyTime.parse(line) for line in lines]
        self._zone = ZoneInfo(zone)

    def last_due(self, now: float) -> float | None:
        """The latest moment that is not after `now`; None without lines."""
        return max((moment for moment in self._moments(now, -_SPAN_DAYS, 2) if moment <= now), default=None)

    def next_due(self, now: float) -> float | None:
        """The first moment after `now`; None without lines."""
        return min((moment for moment in self._moments(now, -1, _SPAN_DAYS + 1) if moment > now), default=None)

    def _moments(self, now: float, first_day: int, end_day: int) -> Iterator[float]:
        today = datetime.fromtimestamp(now, self._zone).date()
        for offset in range(first_day, end_day):
            yield from self._moments_of(today + timedelta(days=offset))

    def _moments_of(self, day: date) -> Iterator[float]:
        for each in self._times:
            if day.weekday() in each.days:
                yield datetime.combine(day, each.at, self._zone).timestamp()
