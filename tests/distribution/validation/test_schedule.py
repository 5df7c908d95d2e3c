# SPDX-License-Identifier: Apache-2.0
"""Times of the week in a named zone, over the days on which clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.content_settings import DAYS
from dpd.distribution.validation.schedule import ValidationSchedule, WeeklyTime
from dpd.errors import SettingsError

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Chatham", "Asia/Kathmandu", "Pacific/Apia")


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_the_time_is_that_of_the_zone() -> None:
    schedule = ValidationSchedule(("sun 02:00",), "America/New_York")
    now = at("2026-11-18 12:00", "America/New_York")  # a Wednesday
    assert schedule.next_due(now) == at("2026-11-22 02:00", "America/New_York")
    assert schedule.last_due(now) == at("2026-11-15 02:00", "America/New_York")


def test_a_moment_itself_is_due_and_not_next() -> None:
    schedule = ValidationSchedule(("daily 23:30",), "UTC")
    now = at("2026-11-18 23:30", "UTC")
    assert schedule.last_due(now) == now
    assert schedule.next_due(now) == now + 86400


def test_without_lines_nothing_is_ever_due() -> None:
    schedule = ValidationSchedule((), "UTC")
    assert schedule.last_due(1e9) is None
    assert schedule.next_due(1e9) is None


def test_an_hour_that_the_clock_skips_is_made_up_after_it() -> None:
    schedule = ValidationSchedule(("sun 02:30",), "Europe/Berlin")
    evening = at("2026-03-28 20:00", "Europe/Berlin")
    assert schedule.next_due(evening) == at("2026-03-29 03:30", "Europe/Berlin")


def test_an_hour_that_comes_twice_counts_once() -> None:
    schedule = ValidationSchedule(("daily 02:30",), "Europe/Berlin")
    first = schedule.next_due(at("2026-10-24 20:00", "Europe/Berlin"))
    assert first == at("2026-10-25 02:30", "Europe/Berlin")
    assert schedule.next_due(first) == at("2026-10-26 02:30", "Europe/Berlin") == first + 25 * 3600


@pytest.mark.parametrize("line", ["sun 2:00", "sunday 02:00", "sun 24:00", "02:00", "daily 12:60", ""])
def test_a_line_that_is_none_is_refused_in_words(line: str) -> None:
    with pytest.raises(SettingsError, match="expected a time such as"):
        WeeklyTime.parse(line)


LINES = st.builds("{} {:02}:{:02}".format, st.sampled_from((*DAYS, "daily")), st.integers(0, 23), st.integers(0, 59))


@given(st.lists(LINES, min_size=1, max_size=4), st.sampled_from(ZONES), st.floats(1.6e9, 2.2e9))
def test_last_and_next_enclose_now_with_nothing_between(lines: list[str], zone: str, now: float) -> None:
    schedule = ValidationSchedule(tuple(lines), zone)
    last, following = schedule.last_due(now), schedule.next_due(now)
    assert last is not None
    assert following is not None
    assert last <= now < following
    assert schedule.next_due(last) == following
    assert schedule.last_due(following) == following
    assert following - last <= timedelta(days=7, hours=25).total_seconds()
