# SPDX-License-Identifier: Apache-2.0
"""Receivers that stop, crawl or vanish: the others go on, and whoever lives completes. The real sender at 1 Gbit/s."""

from __future__ import annotations

import numpy as np
import pytest
from tests.sim.channel import Independent
from tests.sim.crowd import Crowd, Light

SLAB_BYTES = 128 * 32 * 1408
SLABS = 400  # 2.3 GB: 20 s on the line


def crowd(receivers: int) -> Crowd:
    rng = np.random.default_rng(1)
    lights = [Light(i) for i in range(receivers)]
    return Crowd(Independent(receivers, 0.001, rng), lights, SLABS, 1e9, rng)


def others_s(group: Crowd) -> float:
    """Until the five who do nothing wrong have everything."""
    five = group.lights[:5]
    group.clock.run(lambda: all(light.finished_at is not None for light in five), limit_s=120.0)
    return max(light.finished_at or 0.0 for light in five)


@pytest.fixture(scope="module")
def alone_s() -> float:
    return others_s(crowd(5))


def test_one_that_sleeps_one_that_crawls_and_one_that_vanishes_keep_the_others_a_tenth_at_most(alone_s: float) -> None:
    group = crowd(8)
    sleeper, crawler, ghost = group.lights[5:]
    sleeper.sleeps = (8.0, 13.0)
    crawler.disk_s = SLAB_BYTES / 20e6
    ghost.vanishes_at = 5.0
    assert others_s(group) <= 1.1 * alone_s
    group.run(limit_s=1.3 * SLABS * crawler.disk_s)
    assert sleeper.finished_at is not None
    # Five seconds of slabs come again for it, between those that the crawler lacks.
    assert sleeper.finished_at <= 1.1 * alone_s + 2 * 5.0
    assert crawler.finished_at is not None
