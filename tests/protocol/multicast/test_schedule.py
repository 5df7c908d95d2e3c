# SPDX-License-Identifier: Apache-2.0
"""When a group of receivers is served: autocast, scheduled cast, and the operator who will not wait."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.multicast.schedule import Schedule

QUIET_S, PATIENCE_S = 1.0, 4.0


def after_joins(schedule: Schedule, *times: float) -> float | None:
    """When a session starts whose receivers join at these times."""
    for members, time in enumerate(times, 1):
        schedule.note_join(members, time)
    return schedule.starts_at(times[-1]) if times else schedule.starts_at(0.0)


def test_without_joins_there_is_no_start() -> None:
    assert after_joins(Schedule(QUIET_S, PATIENCE_S)) is None
    assert after_joins(Schedule(QUIET_S, PATIENCE_S, 3, 60.0, 100.0)) is None


@pytest.mark.parametrize(
    ("joins", "start"),
    [
        pytest.param([10.0], 11.0, id="alone"),
        pytest.param([10.0, 10.5, 11.2], 12.2, id="the last of them, and a quiet second"),
        pytest.param([10 + 0.9 * i for i in range(5)], 14.0, id="the first one's patience"),
        pytest.param([10.0, 11.5], 11.0, id="too late to put it off"),
    ],
)
def test_autocast(joins: list[float], start: float) -> None:
    assert after_joins(Schedule(QUIET_S, PATIENCE_S), *joins) == pytest.approx(start)


@pytest.mark.parametrize(
    ("minimum", "wait_s", "start_at", "joins", "start"),
    [
        pytest.param(3, 60.0, None, [10.0], 70.0, id="too few: when wait_s is over"),
        pytest.param(3, 60.0, None, [10.0, 20.0, 30.0], 31.0, id="enough: gathers from there"),
        pytest.param(3, 60.0, None, [10.0, 20.0, 30.0, 30.9, 31.8, 32.7, 33.6], 34.0, id="enough, and patience"),
        pytest.param(3, 60.0, None, [10.0, 69.5], 70.5, id="wait_s is over while they gather"),
        pytest.param(0, 0.0, 50.0, [10.0, 20.0], 50.0, id="start time"),
        pytest.param(0, 0.0, 50.0, [10.0, 49.5], 50.5, id="start time, with one who just came"),
        pytest.param(0, 0.0, 50.0, [60.0], 61.0, id="start time past: autocast"),
        pytest.param(2, 60.0, 50.0, [10.0, 20.0], 50.0, id="enough before the start time"),
        pytest.param(2, 60.0, 50.0, [45.0], 105.0, id="start time, and too few"),
        pytest.param(1, 60.0, None, [10.0], 11.0, id="a minimum of one is autocast"),
        pytest.param(5, 0.0, None, [10.0], 11.0, id="no time to wait is autocast"),
    ],
)
def test_scheduled_cast(minimum: int, wait_s: float, start_at: float | None, joins: list[float], start: float) -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, minimum, wait_s, start_at)
    assert after_joins(schedule, *joins) == pytest.approx(start)


def test_start_now_overrides_everything() -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, 50, 600.0, 1000.0)
    after_joins(schedule, 10.0, 11.0)
    schedule.start_now(12.0)
    assert schedule.starts_at(12.0) == 12.0


def test_start_now_before_anybody_came_is_for_the_first_group_alone() -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, 50, 600.0)
    schedule.start_now(5.0)
    assert after_joins(schedule, 10.0) == 10.0
    assert after_joins(schedule, 20.0) == 620.0


def test_the_next_group_gathers_again() -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, 2, 60.0)
    assert after_joins(schedule, 10.0, 11.0) == 12.0
    assert after_joins(schedule, 100.0) == 160.0
    assert after_joins(schedule, 200.0, 201.0) == 202.0


def test_other_rules_hold_for_those_who_wait() -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, 3, 60.0)
    after_joins(schedule, 10.0, 11.0)
    schedule.change(minimum_clients=2, wait_s=60.0, start_at=None, now=20.0)
    assert schedule.starts_at(20.0) == 20.0
    schedule = Schedule(QUIET_S, PATIENCE_S)
    after_joins(schedule, 10.0)
    schedule.change(minimum_clients=0, wait_s=0.0, start_at=50.0, now=10.5)
    assert schedule.starts_at(10.5) == 50.0


def test_other_rules_do_not_stop_a_group_that_is_served() -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S)
    after_joins(schedule, 10.0)
    schedule.change(minimum_clients=9, wait_s=600.0, start_at=1000.0, now=12.0)
    started = schedule.starts_at(12.0)
    assert started is not None
    assert started <= 12.0
    assert after_joins(schedule, 2000.0) == 2600.0


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted),
    st.integers(0, 12),
    st.floats(0, 50),
    st.none() | st.floats(0, 200),
)
def test_it_always_starts_and_never_too_early(
    joins: list[float], minimum: int, wait_s: float, start_at: float | None
) -> None:
    schedule = Schedule(QUIET_S, PATIENCE_S, minimum, wait_s, start_at)
    start = after_joins(schedule, *joins)
    assert start is not None
    assert start >= (start_at or 0.0)
    assert start <= max(joins[0], start_at or -math.inf) + wait_s + PATIENCE_S + 1e-9
