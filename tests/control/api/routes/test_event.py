# SPDX-License-Identifier: Apache-2.0
"""Status messages and what is true now, over the API's socket."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from dpd.content.library import Library
from dpd.control.operations.verbs import Operations
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.spool import Spool

PATIENCE_S = 30.0


async def _get(api: aiohttp.ClientSession, target: str) -> Any:
    async with api.get(target) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def put(spool: Spool, count: int, event: str = "job.done", **fields: str | int) -> None:
    for _ in range(count):
        spool.put(event, fields)
    assert spool.flush(PATIENCE_S)


async def test_the_newest_are_shown_and_lead_on(api: aiohttp.ClientSession, spool: Spool) -> None:
    put(spool, 5)
    put(spool, 1, "job.failed", job=7, kind="pull", error="no route")
    newest = await _get(api, "/v1/messages?limit=2")
    assert [each["sequence"] for each in newest["messages"]] == [5, 6]
    failed = newest["messages"][1]
    assert failed.pop("at") > 0
    assert failed == {
        "position": newest["position"],
        "sequence": 6,
        "event": "job.failed",
        "message_id": 2005,
        "severity": "error",
        "text": "Job 7 (pull) failed: no route.",
        "fields": {"job": 7, "kind": "pull", "error": "no route"},
    }
    put(spool, 1)
    assert [each["sequence"] for each in (await _get(api, f"/v1/messages?after={newest['position']}"))["messages"]] == [
        7
    ]


async def test_history_can_be_read_from_its_beginning_and_by_severity(api: aiohttp.ClientSession, spool: Spool) -> None:
    put(spool, 3)
    put(spool, 1, "receiver_lost")
    assert len((await _get(api, "/v1/messages?after=0"))["messages"]) == 4
    severe = await _get(api, "/v1/messages?after=0&severity=warning")
    assert [each["event"] for each in severe["messages"]] == ["receiver_lost"]


@pytest.mark.parametrize("query", ["after=x", "limit=0", "limit=1001", "severity=fatal", "last=5", "after="])
async def test_what_cannot_be_asked_is_refused(api: aiohttp.ClientSession, query: str) -> None:
    async with api.get(f"/v1/messages?{query}") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_request")


async def test_events_in_memory_and_messages_on_disk_tell_the_same(
    api: aiohttp.ClientSession, library: Library, operations: Operations, spool: Spool
) -> None:
    operations._events.note("content.state", package_id="P", state="installed")
    assert spool.flush(PATIENCE_S)
    (event,) = (await _get(api, "/v1/events?after=0"))["events"]
    (message,) = (await _get(api, "/v1/messages?after=0"))["messages"]
    assert (event["event"], event["at"], event["fields"]) == (message["event"], message["at"], message["fields"])


async def test_what_is_true_now_is_one_answer_and_leads_on_to_what_changes(
    api: aiohttp.ClientSession, spool: Spool, journal: BootJournal
) -> None:
    put(spool, 3)
    journal.note("52:54:00:00:00:01", "discover", client_class="PXEClient", client_arch="bios", secs=0)
    state = await _get(api, "/v1/state")
    assert (state["position"], state["state"]) == (f"{spool.epoch}-3", "starting")
    assert (state["machines"], state["boots"][0]["mac"]) == (1, "52:54:00:00:00:01")
    assert (state["sessions"], state["pending"], state["bus"]["state"]) == ([], [], "off")
    put(spool, 1)
    behind = await _get(api, f"/v1/messages?after={state['position']}")
    assert [each["sequence"] for each in behind["messages"]] == [4]


@pytest.mark.parametrize("query", ["packages=-1", "packages=1001", "machines=0", "machines=501"])
async def test_a_state_out_of_bounds_is_refused(api: aiohttp.ClientSession, query: str) -> None:
    async with api.get(f"/v1/state?{query}") as response:
        assert response.status == 400
