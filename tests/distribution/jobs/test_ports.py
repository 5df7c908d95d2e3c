# SPDX-License-Identifier: Apache-2.0
"""The gate without a schedule, and the real one, are what a desk asks."""

from __future__ import annotations

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.job import Priority
from dpd.distribution.jobs.ports import AlwaysOpen, Gate
from dpd.distribution.pulling.schedule import Grid


def test_both_gates_let_everyone_through_at_once() -> None:
    gates: list[Gate] = [AlwaysOpen(), Grid.of(DistributionSettings())]
    for gate in gates:
        for priority in Priority:
            assert gate.allows(priority, 1e9)
            assert gate.opens_at(priority, 1e9) == 1e9
