# SPDX-License-Identifier: Apache-2.0
"""Plans: settings, an operator's changes, and the words for waiting."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dpd.service.multicast.cast import CastChanges, CastPlan, waiting_in_words
from dpd.settings import MulticastSettings

PLAN = CastPlan(minimum_clients=8, wait_s=600.0, start_at=None, rate_mbit_s=0.0, max_clients=1000)


def test_a_plan_is_the_settings_until_somebody_changes_it() -> None:
    settings = MulticastSettings(minimum_clients=4, wait_for_clients_s=60.0, rate_mbit_s=100.0, max_clients=7)
    plan = CastPlan.of(settings)
    assert plan == CastPlan(4, 60.0, None, 100.0, 7)
    assert plan.with_changes(CastChanges()) == plan
    assert plan.with_changes(CastChanges(minimum_clients=0, rate_mbit_s=0.0)) == CastPlan(0, 60.0, None, 0.0, 7)


def test_what_changes_the_schedule_is_told_from_what_does_not() -> None:
    assert not CastChanges(rate_mbit_s=5.0, max_clients=1).is_schedule
    assert CastChanges(minimum_clients=0).is_schedule
    assert CastChanges(start_at=0.0).is_schedule


def test_a_start_time_is_turned_into_the_senders_clock() -> None:
    plan = replace(PLAN, start_at=time.time() + 100)
    schedule = plan.schedule(MulticastSettings(start_delay_s=2.0))
    assert plan.is_to_come
    assert schedule.start_at == pytest.approx(time.monotonic() + 100, abs=1)
    assert (schedule.quiet_s, schedule.patience_s, schedule.minimum_clients, schedule.wait_s) == (2.0, 8.0, 8, 600.0)
    assert not replace(PLAN, start_at=time.time() - 1).is_to_come


@pytest.mark.parametrize(
    ("plan", "waiting", "starts_in_s", "words"),
    [
        (PLAN, 5, 240.0, "waiting for 3 of 8 receivers, starts in 4 min"),
        (PLAN, 0, None, "waiting for 8 of 8 receivers"),
        (PLAN, 8, 1.2, "starts in 2 s"),
        (replace(PLAN, minimum_clients=0), 1, 0.3, "starts in 1 s"),
        (replace(PLAN, minimum_clients=0), 1, 7300.0, "starts in 2.0 h"),
        (replace(PLAN, minimum_clients=0), 0, None, ""),
    ],
)
def test_waiting_is_told_in_words(plan: CastPlan, waiting: int, starts_in_s: float | None, words: str) -> None:
    assert waiting_in_words(plan, waiting, starts_in_s) == words


def test_a_start_time_ahead_is_told_before_anybody_has_joined() -> None:
    plan = replace(PLAN, start_at=time.time() + 3599)
    assert waiting_in_words(plan, 0, None) == "waiting for 8 of 8 receivers, starts in 60 min at the earliest"
