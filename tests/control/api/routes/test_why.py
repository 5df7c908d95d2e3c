# SPDX-License-Identifier: Apache-2.0
"""Why, over the API's socket."""

from __future__ import annotations

import aiohttp

from dpd.telemetry.journal import BootJournal

MAC = "52:54:00:00:00:01"


async def test_a_machine_is_explained(api: aiohttp.ClientSession, journal: BootJournal) -> None:
    journal.note(MAC, "discover", client_class="PXEClient", client_arch="bios", secs=0)
    journal.note(MAC, "ignored", reason="no_rule")
    async with api.get(f"/v1/pxe/machines/{MAC}/why") as response:
        why = await response.json()
    assert response.status == 200
    assert why.keys() == {"mac", "others", "cause", "sentence", "next_step", "remarks", "attempts"}
    assert (why["mac"], why["cause"]) == (MAC, "no_image_for_arch")
    assert [step["event"] for step in why["attempts"][0]["steps"]] == ["discover", "ignored"]


async def test_a_machine_that_was_never_heard_is_an_answer_too(api: aiohttp.ClientSession) -> None:
    async with api.get(f"/v1/pxe/machines/{MAC}/why") as response:
        assert (response.status, (await response.json())["cause"]) == (200, "no_relay")


async def test_what_is_no_machine_is_refused(api: aiohttp.ClientSession) -> None:
    for name in ("short", "52:54:00:00:00:0g"):
        async with api.get(f"/v1/pxe/machines/{name}/why") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_request")


async def test_the_last_boots_are_listed(api: aiohttp.ClientSession, journal: BootJournal) -> None:
    journal.note(MAC, "discover", client_class="PXEClient", client_arch="bios", secs=0)
    journal.note(MAC, "ignored", reason="no_rule")
    async with api.get("/v1/pxe/boots?limit=1") as response:
        reply = await response.json()
    (boot,) = reply["boots"]
    assert (boot["mac"], boot["cause"], boot["attempts"], reply["total"]) == (MAC, "no_image_for_arch", 1, 1)
    assert boot["sentence"]


async def test_a_limit_out_of_bounds_is_refused(api: aiohttp.ClientSession) -> None:
    for limit in ("0", "501", "x"):
        async with api.get(f"/v1/pxe/boots?limit={limit}") as response:
            assert response.status == 400
