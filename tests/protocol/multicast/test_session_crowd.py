# SPDX-License-Identifier: Apache-2.0
"""Sessions of many, or for long: the real sender before receivers that are rows of numbers (`tests/sim/crowd.py`)."""

from __future__ import annotations

import numpy as np
import pytest
from tests.sim.channel import Independent
from tests.sim.crowd import Crowd, Light
from tests.sim.footprint import entries
from tests.sim.sessions import SLAB_S
from tests.sim.vector import reports_per_s

LINE_BIT_S = 1e9
START_S = 0.25  # the session's quiet time


def crowd(lights: list[Light], slabs: int, loss: float = 0.001) -> Crowd:
    rng = np.random.default_rng(1)
    return Crowd(Independent(len(lights), loss, rng), lights, slabs, LINE_BIT_S, rng)


def finished(lights: list[Light]) -> float:
    return max(light.finished_at or 0.0 for light in lights)


def test_a_thousand_join_within_a_second_and_share_one_pass() -> None:
    """The limits of CPU are five times what an idle machine of two cores takes: they catch work per train and member."""
    lights = [Light(i, joins_at=i / 1000) for i in range(1000)]
    group = crowd(lights, slabs=6)
    group.clock.run(lambda: group.sender.counters.source_symbols > 0, limit_s=5.0)
    joins_cpu_s, members_entries = group.sender_cpu_s, entries(group.sender)
    assert len(group.sender.members) == 1000
    assert members_entries <= 12 * 1000
    assert joins_cpu_s <= 2.5
    group.run(limit_s=20.0)
    assert group.sent_ratio <= 1.03, (
        "the fullest column of a thousand needs 1.018, with a promise that has not been learnt"
    )
    assert finished(lights) <= 1.0 + START_S + 6 * SLAB_S * 1.03 + 1.0
    assert group.sender_cpu_s - joins_cpu_s <= 5.0
    assert entries(group.sender) <= members_entries + 3000


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_late_join_costs_the_part_that_it_missed(part: float) -> None:
    slabs = 80
    lights = [Light(i) for i in range(4)]
    lights[3].joins_at = START_S + part * slabs * SLAB_S
    group = crowd(lights, slabs, loss=0.0)
    group.run(limit_s=60.0)
    assert group.sent_ratio <= (1 + part) * 1.02
    assert finished(lights[:3]) <= START_S + slabs * SLAB_S * 1.01
    assert finished(lights) <= lights[3].joins_at + slabs * SLAB_S * 1.02


def test_a_thousand_who_lose_one_percent_send_a_few_hundred_questions_a_second() -> None:
    """The promise is learnt from what was asked for: who has not asked yet must not be put off for ever."""
    lights = [Light(i, joins_at=i / 10_000) for i in range(1000)]
    group = crowd(lights, slabs=24, loss=0.01)
    settled_s = 0.1 + START_S + 12 * SLAB_S
    group.clock.run(lambda: group.clock.now >= settled_s, limit_s=5.0)
    nacks = group.sender.counters.nacks
    group.clock.run(lambda: group.clock.now >= settled_s + 10 * SLAB_S, limit_s=5.0)
    nacks_s = (group.sender.counters.nacks - nacks) / (10 * SLAB_S)
    assert 50 <= nacks_s <= 450
    assert nacks_s + reports_per_s(1000) <= 1000
    group.run(limit_s=20.0)
    assert group.sent_ratio <= 1.06
