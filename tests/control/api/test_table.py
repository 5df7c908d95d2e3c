# SPDX-License-Identifier: Apache-2.0
"""Every verb of the API, over a real Unix socket, down to a real library and a real multicast sender."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.content.library import Content, Library
from dpd.control.operations.verbs import Operations
from dpd.service.multicast.service import MulticastService
from dpd.telemetry.journal import BootJournal


async def lines_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in response.content]


@pytest.fixture
def published(library: Library, image: Path) -> Content:
    return library.publish(image, "LAB00001")


async def test_status_tells_the_daemon_at_a_glance(api: aiohttp.ClientSession, published: Content) -> None:
    async with api.get("/v1/status") as response:
        status = await response.json()
    assert (status["contents"], status["content_bytes"]) == (1, published.size_bytes)
    assert len(bytes.fromhex(status["public_key"])) == 32
    assert status["state"] == "starting"
    assert [service["name"] for service in status["services"]] == ["multicast"]
    assert status["services"][0]["counted"]["sessions"] == 0


async def test_a_file_that_the_daemon_can_read_is_published_with_progress(
    api: aiohttp.ClientSession, image: Path, library: Library
) -> None:
    async with api.post("/v1/content", json={"path": str(image), "package_id": "LAB00001"}) as response:
        *progress, last = await lines_of(response)
    size = image.stat().st_size
    assert response.content_type == "application/x-ndjson"
    assert progress[-1] == {"progress": {"done_bytes": size, "total_bytes": size}}
    assert list(last) == ["content"]
    assert (last["content"]["package_id"], last["content"]["source_version"]) == ("LAB00001", 1)
    assert library.find("LAB00001").sha256 == last["content"]["sha256"]


async def test_an_upload_is_published_under_its_own_name(
    api: aiohttp.ClientSession, image: Path, library: Library, tmp_path: Path
) -> None:
    query = {"package_id": "LAB00001", "source_version": "7", "name": "lab image.img"}
    async with api.post("/v1/content", params=query, data=image.open("rb")) as response:
        *_, last = await lines_of(response)
    assert last["content"]["name"] == "lab image.img"
    content = library.find("LAB00001", 7)
    assert content.size_bytes == image.stat().st_size
    library.verify("LAB00001")
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_content_is_listed_shown_verified_and_removed(api: aiohttp.ClientSession, published: Content) -> None:
    async with api.get("/v1/content") as response:
        assert [c["package_id"] for c in (await response.json())["content"]] == ["LAB00001"]
    async with api.get("/v1/content/LAB00001?source_version=1") as response:
        assert (await response.json())["sha256"] == published.sha256
    async with api.post("/v1/content/LAB00001/verify") as response:
        assert (await lines_of(response))[-1]["content"]["sha256"] == published.sha256
    async with api.delete("/v1/content/LAB00001") as response:
        assert (await response.json())["source_version"] == 1
    async with api.get("/v1/content/LAB00001") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "content_not_found")


async def test_damage_found_half_way_ends_the_stream_with_an_error_line(
    api: aiohttp.ClientSession, published: Content, tmp_path: Path
) -> None:
    blob = tmp_path / "library" / "blobs" / published.sha256[:2] / published.sha256
    with blob.open("r+b") as file:
        file.seek(published.size_bytes - 1)
        file.write(b"!")
    async with api.post("/v1/content/LAB00001/verify") as response:
        *_, last = await lines_of(response)
    assert response.status == 200
    assert last["error"]["code"] == "content_corrupt"
    assert "slab 1" in last["error"]["message"]


async def test_a_session_is_started_shown_and_stopped(api: aiohttp.ClientSession, published: Content) -> None:
    async with api.post("/v1/sessions", json={"package_id": "LAB00001"}) as response:
        session = await response.json()
    assert (session["package_id"], session["slabs"], session["members"]) == ("LAB00001", 2, [])
    address = f"/v1/sessions/{session['session_id']}"
    async with api.get(address) as response:
        assert (await response.json())["group"] == session["group"]
    async with api.delete(address) as response:
        assert (await response.json())["session_id"] == session["session_id"]
    async with api.get("/v1/sessions") as response:
        assert await response.json() == {"sessions": []}


async def test_removing_content_ends_its_session(api: aiohttp.ClientSession, published: Content) -> None:
    async with api.post("/v1/sessions", json={"package_id": "LAB00001"}) as response:
        assert response.status == 200
    async with api.delete("/v1/content/LAB00001") as response:
        assert response.status == 200
    async with api.get("/v1/sessions") as response:
        assert await response.json() == {"sessions": []}


async def test_a_machine_tells_its_story_whatever_the_spelling_of_its_mac(
    api: aiohttp.ClientSession, journal: BootJournal
) -> None:
    journal.note("52:54:00:12:34:56", "discover", client_arch="x64")
    async with api.get("/v1/pxe/machines") as response:
        assert await response.json() == {"machines": ["52:54:00:12:34:56"]}
    async with api.get("/v1/pxe/machines/52-54-00-12-34-56") as response:
        story = await response.json()
    assert story["mac"] == "52:54:00:12:34:56"
    assert [(event["event"], event["fields"]) for event in story["events"]] == [("discover", {"client_arch": "x64"})]


async def test_a_running_session_is_changed_and_started_now(api: aiohttp.ClientSession, published: Content) -> None:
    wish = {"package_id": "LAB00001", "minimum_clients": 8, "wait_s": 600, "rate_mbit_s": 100, "max_clients": 20}
    async with api.post("/v1/sessions", json=wish) as response:
        session = await response.json()
    assert (session["minimum_clients"], session["rate_mbit_s"], session["max_clients"]) == (8, 100.0, 20)
    assert (session["state"], session["waiting"]) == ("waiting", "waiting for 8 of 8 receivers")
    address = f"/v1/sessions/{session['session_id']}"
    async with api.patch(address, json={"rate_mbit_s": 40}) as response:
        changed = await response.json()
    assert (changed["rate_mbit_s"], changed["minimum_clients"]) == (40.0, 8)
    async with api.post(f"{address}/start") as response:
        assert response.status == 200
    async with api.patch(address, json={"rate": 40}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_request")
    async with api.post("/v1/sessions/00000000/start") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "session_not_found")


async def test_receivers_are_listed_moved_and_kicked(
    api: aiohttp.ClientSession, published: Content, operations: Operations
) -> None:
    assert isinstance(operations._multicast, MulticastService)
    door = operations._multicast
    answers = [await asyncio.to_thread(door.join, "LAB00001", None, {"name": f"pc{i}"}, "127.0.0.1") for i in range(2)]
    address = f"/v1/sessions/{answers[0]['session_id']}/members"
    labels = [answer["member"][8:] for answer in answers]
    async with api.post(f"{address}/{labels[0]}/move", json={"speed_class": 1}) as response:
        assert next(m["state"] for m in (await response.json())["members"]) == "moving"
    async with api.post(f"{address}/{labels[1]}/kick", json={"fall_back": False}) as response:
        assert response.status == 200
    async with api.get(address) as response:
        shown = {m["name"]: m for m in (await response.json())["members"]}
    assert (shown["pc0"]["class_moves"], shown["pc1"]["state"]) == (1, "kicked")
    assert {"lost", "blame", "round_trip_ms", "bytes_repair", "bytes_unicast", "finished_at"} <= set(shown["pc1"])
    async with api.post(f"{address}/{labels[1]}/kick", json={}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (409, "session_refused")
    async with api.post(f"{address}/XYZ/move", json={"speed_class": 1}) as response:
        assert "8 hex digits, as `dpd session members` shows them" in (await response.json())["error"]["message"]


async def test_the_uplink_is_shown_and_changed(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/multicast") as response:
        assert await response.json() == {"uplink_mbit_s": 0.0}
    async with api.patch("/v1/multicast", json={"uplink_mbit_s": 900}) as response:
        assert await response.json() == {"uplink_mbit_s": 900.0}
    async with api.patch("/v1/multicast", json={"uplink_mbit_s": -1}) as response:
        assert response.status == 400


async def test_events_are_polled_and_waited_for(api: aiohttp.ClientSession, published: Content) -> None:
    async with api.get("/v1/events?after=0") as response:
        assert await response.json() == {"events": [], "latest": 0}
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_events(api, "after=0&wait_s=30"))
        async with api.post("/v1/sessions", json={"package_id": "LAB00001"}) as response:
            session = await response.json()
    told = waiting.result()
    assert [event["event"] for event in told["events"]] == ["session_started"]
    assert told["events"][0]["fields"]["session"] == session["session_id"]
    assert told["latest"] == told["events"][0]["id"]
    assert (await _events(api, f"after={told['latest']}"))["events"] == []
    assert (await _events(api, "wait_s=0"))["latest"] == told["latest"], "without `after`: from now on"


async def _events(api: aiohttp.ClientSession, query: str) -> Any:
    async with api.get(f"/v1/events?{query}") as response:
        return await response.json()


async def test_a_drain_releases_who_waits_for_events(api: aiohttp.ClientSession, operations: Operations) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_events(api, "after=0&wait_s=30"))
        while not operations._multicast.events._news._waiting:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        operations.drain()
    assert waiting.result()["events"] == []
