# SPDX-License-Identifier: Apache-2.0
"""What may be pulled in which hour of the week, and how fast: 168 hours on the clock of a named time zone.

A question is asked of an instant, never of a local time: where clocks go back, the hour that comes twice is twice that
hour, and the one that clocks jump over does not come. Nothing is remembered from one question to the next, so that a
clock that is set, in either direction, is right at the next question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from zoneinfo import ZoneInfo

from dpd.content_settings import DAYS, GRID_CLASSES, HOURS_LINE, DistributionSettings

HOURS_OF_DAY = 24
HOURS_OF_WEEK = 7 * HOURS_OF_DAY
# Zones differ from UTC, and change that, by multiples of a quarter of an hour (IANA data since 1972).
_STEP_S = 900
_LOOK_AHEAD_S = 15 * 86400  # two weeks: the only closed hour of one may be that which clocks jump over


class GridClass(IntEnum):
    """What an hour lets through: jobs whose priority (1 high, 2 normal, 3 low) is at most this."""

    CLOSED = 0
    HIGH_ONLY = 1
    MEDIUM_AND_HIGH = 2
    OPEN = 3


_CLASS_OF_NAME = dict(zip(GRID_CLASSES, (*reversed(GridClass),), strict=True))


@dataclass(frozen=True, slots=True)
class Grid:
    """The hours of the week from Monday 00 on, on the clock of `zone`. `rates_mbit_s`: 0 is no ceiling."""

    zone: ZoneInfo
    classes: tuple[GridClass, ...]
    rates_mbit_s: tuple[float, ...]

    @classmethod
    def of(cls, settings: DistributionSettings) -> Grid:
        """The grid of checked settings; a later line wins over an earlier one."""
        classes, rates = [GridClass.OPEN] * HOURS_OF_WEEK, [settings.rate_mbit_s] * HOURS_OF_WEEK
        for hour, name in _lines(settings.schedule):
            classes[hour] = _CLASS_OF_NAME[name]
        for hour, rate in _lines(settings.rates):
            rates[hour] = float(rate)
        return cls(ZoneInfo(settings.time_zone), tuple(classes), tuple(rates))

    def allows(self, priority: int, at: float) -> bool:
        """Whether a job of this priority may pull at this moment (seconds since the epoch)."""
        return priority <= self.classes[self._hour(at)]

    def rate_bit_s(self, at: float) -> float:
        """Bit/s of all pulls together; infinite where there is no ceiling."""
        return self.rates_mbit_s[self._hour(at)] * 1e6 or math.inf

    def next_change(self, at: float) -> float | None:
        """The first moment after this one when another answer may be given; None where none is seen in two weeks."""
        if len(set(zip(self.classes, self.rates_mbit_s, strict=True))) == 1:
            return None
        now = self._answers(at)
        first = (int(at // _STEP_S) + 1) * _STEP_S
        for moment in range(first, first + _LOOK_AHEAD_S, _STEP_S):
            if self._answers(moment) != now:
                return float(moment)
        return None

    def opens_at(self, priority: int, at: float) -> float | None:
        """The first moment from this one on when a job of this priority may pull; None where none comes."""
        moment: float | None = at
        while moment is not None and not self.allows(priority, moment):
            moment = self.next_change(moment)
        return moment

    def _answers(self, at: float) -> tuple[GridClass, float]:
        hour = self._hour(at)
        return self.classes[hour], self.rates_mbit_s[hour]

    def _hour(self, at: float) -> int:
        local = datetime.fromtimestamp(at, self.zone)
        return local.weekday() * HOURS_OF_DAY + local.hour


def _lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each hour of the week that a line names, and what it says of it, line by line."""
    for line in lines:
        found = HOURS_LINE.fullmatch(line)
        if found is None:  # the settings have been checked; a bare test of this module need not be
            raise ValueError(f'{line!r}: expected hours such as "mon-fri 08-18" and a value')
        for hour in hours_of(found[1]):
            yield hour, found[2]


def hours_of(text: str) -> Iterator[int]:
    """The hours of the week in "DAYS HH-HH". Days may run over the end of the week, hours over midnight into the next day:
    "fri 22-06" ends on Saturday at six; equal hours are a whole day."""
    days, _, hours = text.partition(" ")
    begin, end = (int(hour) for hour in hours.split("-"))
    count = end - begin if end > begin else end - begin + HOURS_OF_DAY
    for part in days.split(","):
        for day in _days_of(part):
            for hour in range(day * HOURS_OF_DAY + begin, day * HOURS_OF_DAY + begin + count):
                yield hour % HOURS_OF_WEEK


def _days_of(text: str) -> Iterator[int]:
    first, _, last = text.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    for day in range(begin, end + 1 if end >= begin else end + 8):
        yield day % 7
