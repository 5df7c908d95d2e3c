# SPDX-License-Identifier: Apache-2.0
"""Hours of the week: what the lines mean, both changes of the clock in a year, and the next change of all."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.content_settings import DistributionSettings
from dpd.distribution.pulling.schedule import Grid, GridClass, hours_of

HIGH, NORMAL, LOW = 1, 2, 3


def grid(zone: str = "Europe/Berlin", **keys: Any) -> Grid:
    return Grid.of(DistributionSettings(time_zone=zone, **keys))


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_without_lines_everything_is_open_at_the_general_rate_and_nothing_ever_changes() -> None:
    always = grid(rate_mbit_s=80.0)
    assert always.allows(LOW, at("2026-11-21 03:00"))
    assert always.rate_bit_s(0.0) == 80e6
    assert always.next_change(0.0) is None
    assert grid().rate_bit_s(0.0) == math.inf


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("open", [HIGH, NORMAL, LOW]),
        ("medium-and-high", [HIGH, NORMAL]),
        ("high-only", [HIGH]),
        ("closed", []),
    ],
)
def test_a_class_lets_its_priorities_through(name: str, allowed: list[int]) -> None:
    some = grid(schedule=(f"wed 12-13 {name}",))
    assert [p for p in (HIGH, NORMAL, LOW) if some.allows(p, at("2026-11-18 12:59:59"))] == allowed
    assert some.allows(LOW, at("2026-11-18 13:00"))
    assert some.allows(LOW, at("2026-11-19 12:30"))


def test_a_later_line_wins() -> None:
    some = grid(
        schedule=("mon-sun 00-24 closed", "sat,sun 00-24 open"),
        rates=("mon-fri 08-18 50", "fri 17-18 0"),
        rate_mbit_s=7,
    )
    assert not some.allows(HIGH, at("2026-11-20 23:59"))
    assert some.allows(LOW, at("2026-11-21 00:00"))
    assert some.rate_bit_s(at("2026-11-20 16:59")) == 50e6
    assert some.rate_bit_s(at("2026-11-20 17:00")) == math.inf
    assert some.rate_bit_s(at("2026-11-20 18:00")) == 7e6


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("mon 00-02", [0, 1]),
        ("sun 23-24", [167]),
        ("fri 22-02", [118, 119, 120, 121]),
        ("sun 23-01", [167, 0]),
        ("sat-mon 05-06", [125, 149, 5]),
        ("mon,wed-thu 01-02", [1, 49, 73]),
    ],
)
def test_days_and_hours(text: str, hours: list[int]) -> None:
    assert list(hours_of(text)) == hours


def test_equal_hours_are_a_whole_day() -> None:
    assert list(hours_of("mon 08-08")) == list(range(8, 32))


def test_where_clocks_go_back_the_hour_comes_twice() -> None:
    """25 October 2026, 03:00 summer time is 02:00 winter time."""
    some = grid(schedule=("sun 02-03 closed",))
    first, second = at("2026-10-25 02:30", fold=0), at("2026-10-25 02:30", fold=1)
    assert second - first == 3600
    assert not some.allows(HIGH, first)
    assert not some.allows(HIGH, second)
    assert some.next_change(first - 3600) == at("2026-10-25 02:00")
    assert some.next_change(first) == at("2026-10-25 03:00")
    assert some.opens_at(LOW, first) == at("2026-10-25 03:00") == at("2026-10-25 02:00") + 7200


def test_where_clocks_go_forward_the_hour_does_not_come() -> None:
    """29 March 2026, 02:00 winter time is 03:00 summer time."""
    some = grid(schedule=("sun 02-03 closed",))
    before = at("2026-03-29 01:59:59")
    assert some.allows(LOW, before)
    assert some.allows(LOW, before + 1)
    assert some.next_change(before) == at("2026-04-05 02:00")


def test_a_week_without_its_only_hour_is_looked_over() -> None:
    some = grid(schedule=("mon-sun 00-24 closed", "sun 02-03 open"))
    assert some.opens_at(LOW, at("2026-03-22 03:00")) == at("2026-04-05 02:00")
    assert grid(schedule=("mon-sun 00-24 closed",)).opens_at(HIGH, 0.0) is None


@pytest.mark.parametrize(
    ("zone", "local"),
    [
        ("Asia/Kathmandu", "2026-11-18 08:00"),  # 5:45 before UTC
        ("Australia/Lord_Howe", "2026-04-05 08:00"),  # clocks change by half an hour on this day
        ("America/St_Johns", "2026-11-18 08:00"),
        ("UTC", "2026-11-18 08:00"),
    ],
)
def test_zones_of_broken_hours(zone: str, local: str) -> None:
    some = grid(zone, schedule=("mon-sun 08-18 high-only",))
    begins = at(local, zone)
    assert some.next_change(begins - 6 * 3600) == begins
    assert some.allows(LOW, begins - 1)
    assert not some.allows(LOW, begins)


def test_a_clock_that_is_set_back_is_believed() -> None:
    some = grid(schedule=("wed 12-13 closed",))
    noon = at("2026-11-18 12:00")
    assert [some.allows(LOW, noon + s) for s in (0, 3600, -3600, 0)] == [False, True, True, False]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.builds(
            "{}-{} {:02}-{:02} {}".format,
            st.sampled_from(["mon", "wed", "sat", "sun"]),
            st.sampled_from(["tue", "fri", "sun"]),
            st.integers(0, 23),
            st.integers(1, 24),
            st.sampled_from([c.name.lower().replace("_", "-") for c in GridClass]),
        ),
        max_size=3,
    ),
    moment=st.integers(
        int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    ),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_nothing_changes_before_the_next_change(lines: list[str], moment: int, zone: str) -> None:
    some = grid(zone, schedule=tuple(lines))
    change = some.next_change(moment)
    here = [some.allows(p, moment) for p in (HIGH, NORMAL, LOW)]
    for minute in range(moment, int(min(change or math.inf, moment + 3 * 86400)), 300):
        assert [some.allows(p, minute) for p in (HIGH, NORMAL, LOW)] == here
    if change is not None:
        assert [some.allows(p, change) for p in (HIGH, NORMAL, LOW)] != here
