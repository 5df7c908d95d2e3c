# SPDX-License-Identifier: Apache-2.0
"""Who is asking."""

from __future__ import annotations

import getpass

import aiohttp


async def test_whoever_asks_is_told_who_that_is(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/caller") as response:
        assert await response.json() == {"name": getpass.getuser(), "role": "admin", "door": "unix"}
