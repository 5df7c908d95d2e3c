# SPDX-License-Identifier: Apache-2.0
"""How a point stands with its site, where there is a site and where there is none."""

from __future__ import annotations

from dpd.control.operations.bus import OFF, BusOperations, BusStatus


def test_without_a_bus_it_is_off() -> None:
    assert BusOperations().status() is OFF
    assert OFF.state == "off"


def test_with_one_it_is_asked_each_time() -> None:
    operations = BusOperations()
    states = iter(["away", "connected"])
    operations.source = lambda: BusStatus(next(states))
    assert [operations.status().state, operations.status().state] == ["away", "connected"]
