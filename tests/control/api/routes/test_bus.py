# SPDX-License-Identifier: Apache-2.0
"""The API's route to the bus."""

from __future__ import annotations

import aiohttp

from dpd.control.operations.bus import BusStatus
from dpd.control.operations.verbs import Operations


async def test_a_point_without_a_bus_says_so(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/bus") as response:
        assert (response.status, (await response.json())["state"]) == (200, "off")


async def test_how_it_stands_is_told(api: aiohttp.ClientSession, operations: Operations) -> None:
    operations.bus.source = lambda: BusStatus("away", site="lab", trouble="no route", policy_age_s=7.5)
    async with api.get("/v1/bus") as response:
        told = await response.json()
    assert (told["state"], told["trouble"], told["policy_age_s"]) == ("away", "no route", 7.5)
