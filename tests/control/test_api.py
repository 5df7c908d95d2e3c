# SPDX-License-Identifier: Apache-2.0
"""Every verb of the API, over a real Unix socket, down to a real library and a real multicast sender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.content.library import Content, Library
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
