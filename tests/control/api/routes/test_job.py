# SPDX-License-Identifier: Apache-2.0
"""Jobs, states and maintenance over a real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.control.jobs import Door

from dpd.content.library import Library
from dpd.settings import Settings


@pytest.fixture
def door(settings: Settings, library: Library, tmp_path: Path) -> Door:
    door = Door(settings, library, tmp_path)
    door.place.has = {"A": {1: b"one", 2: b"two"}}
    return door


@pytest.fixture
async def api(door: Door, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with door.open(tmp_path) as client:
        yield client


async def ask(api: aiohttp.ClientSession, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    sent: dict[str, Any] = {} if body is None else {"json": body}
    async with api.request(method, target, **sent) as response:
        return response.status, await response.json()


async def ended(api: aiohttp.ClientSession, id: int) -> Any:
    for _ in range(1000):
        _, job = await ask(api, "GET", f"/v1/jobs/{id}")
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        await asyncio.sleep(0.01)
    raise AssertionError(f"job {id} has not ended: {job}")


async def test_a_package_is_distributed_updated_and_removed(api: aiohttp.ClientSession, library: Library) -> None:
    status, job = await ask(api, "POST", "/v1/jobs", {"kind": "distribute", "package_id": "A", "source_version": 1})
    assert (status, job["id"], job["kind"], job["priority"]) == (200, 1, "distribute", 2)
    assert (await ended(api, 1))["message"] == "version 1 has come"
    await ask(api, "POST", "/v1/jobs", {"kind": "update", "package_id": "A", "priority": 1})
    assert (await ended(api, 2))["message"] == "version 2 has come, 1 taken out"
    status, package = await ask(api, "GET", "/v1/packages/A")
    assert (status, package["state"], package["number"], package["versions"]) == (200, "installed", 0, [2])
    await ask(api, "POST", "/v1/jobs", {"kind": "remove", "package_id": "A"})
    assert (await ended(api, 3))["state"] == "done"
    status, reply = await ask(api, "GET", "/v1/packages/A")
    assert (status, reply["error"]["code"]) == (404, "content_not_found")
    assert library.contents() == []
    _, reply = await ask(api, "GET", "/v1/jobs/ended?limit=2")
    assert [job["id"] for job in reply["jobs"]] == [3, 2]
    _, reply = await ask(api, "GET", "/v1/jobs/ended?before=2&state=done&package_id=A")
    assert [job["id"] for job in reply["jobs"]] == [1]
    assert (await ask(api, "GET", "/v1/packages"))[1] == {"packages": []}


async def test_a_running_job_shows_how_far_it_is_and_can_be_cancelled(api: aiohttp.ClientSession) -> None:
    _, job = await ask(api, "POST", "/v1/jobs", {"kind": "validate"})
    for _ in range(1000):
        _, reply = await ask(api, "GET", "/v1/jobs")
        if reply["jobs"] and reply["jobs"][0]["message"] == "halfway":
            break
        await asyncio.sleep(0.01)
    (seen,) = reply["jobs"]
    assert (seen["state"], seen["done_bytes"], seen["total_bytes"]) == ("running", 50, 100)
    await ask(api, "POST", "/v1/jobs", {"kind": "validate", "package_id": "A"})
    _, first = await ask(api, "GET", "/v1/jobs?limit=1")
    assert (len(first["jobs"]), first["total"]) == (1, 2)
    status, cancelled = await ask(api, "POST", f"/v1/jobs/{job['id']}/cancel")
    assert (status, cancelled["state"] in ("running", "cancelled")) == (200, True)
    assert (await ended(api, job["id"]))["message"].startswith("cancelled by ")


async def test_what_waits_is_tried_again_when_that_is_asked(api: aiohttp.ClientSession, door: Door) -> None:
    _, job = await ask(api, "POST", "/v1/jobs", {"kind": "distribute", "package_id": "B"})
    for _ in range(1000):
        _, job = await ask(api, "GET", f"/v1/jobs/{job['id']}")
        if job["state"] == "waiting":
            break
        await asyncio.sleep(0.01)
    assert job["error"] == "B: no source has it"
    assert job["next_try_at"] > job["created_at"]
    assert (await ask(api, "GET", "/v1/packages/B"))[1]["state"] == "retrying"
    door.place.has["B"] = {1: b"b"}
    status, _ = await ask(api, "POST", f"/v1/jobs/{job['id']}/retry")
    assert status == 200
    assert (await ended(api, job["id"]))["state"] == "done"
    status, reply = await ask(api, "POST", f"/v1/jobs/{job['id']}/retry")
    assert (status, reply["error"]["code"]) == (409, "job_refused")
    status, reply = await ask(api, "POST", f"/v1/jobs/{job['id']}/cancel")
    assert (status, reply["error"]["code"]) == (409, "job_refused")


async def test_maintenance_holds_content_back(api: aiohttp.ClientSession, door: Door, image: Path) -> None:
    assert (await ask(api, "GET", "/v1/maintenance"))[1] == {"reason": ""}
    status, reply = await ask(api, "PATCH", "/v1/maintenance", {"reason": " new disks "})
    assert (status, reply) == (200, {"reason": "new disks"})
    _, job = await ask(api, "POST", "/v1/jobs", {"kind": "distribute", "package_id": "A"})
    assert (job["state"], job["message"]) == ("waiting", "maintenance: new disks")
    status, reply = await ask(api, "POST", "/v1/content", {"path": str(image), "package_id": "X"})
    assert (status, reply["error"]["code"]) == (503, "unavailable")
    assert "`dpd maintenance off`" in reply["error"]["message"]
    status, reply = await ask(api, "POST", "/v1/content/A/images/1/export", {"package_id": "X"})
    assert (status, reply["error"]["code"]) == (503, "unavailable")
    assert (await ask(api, "PATCH", "/v1/maintenance", {"reason": ""}))[1] == {"reason": ""}
    assert (await ended(api, job["id"]))["state"] == "done"
    names = [event.event for event in door.events.after(0)]
    assert [name for name in names if name.startswith("maintenance")] == ["maintenance.on", "maintenance.off"]
    assert {"job.queued", "job.running", "job.done", "content.arrived", "content.state"} <= set(names)


async def test_a_removal_without_a_job_is_not_undone(api: aiohttp.ClientSession, door: Door) -> None:
    await ask(api, "POST", "/v1/jobs", {"kind": "distribute", "package_id": "A"})
    await ended(api, 1)
    assert door.distribution.store.wanted() == [("A", 2)]
    assert (await ask(api, "DELETE", "/v1/content/A"))[0] == 200
    assert door.distribution.store.wanted() == []


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("POST", "/v1/jobs", {"kind": "distribute"}, 400, "package_id: missing"),
        ("POST", "/v1/jobs", {"kind": "validate", "source_version": 1}, 400, "source_version: a version of which"),
        ("POST", "/v1/jobs", {"kind": "gc", "package_id": "A"}, 400, "kind: "),
        ("POST", "/v1/jobs", {"kind": "update", "package_id": "A", "priority": 4}, 400, "priority: "),
        ("POST", "/v1/jobs", {"kind": "update", "package_id": "A", "url": "http://x"}, 400, "url: only for the kind"),
        ("POST", "/v1/jobs", {"kind": "distribute", "package_id": "A", "url": "http://x"}, 400, "url and sha256"),
        (
            "POST",
            "/v1/jobs",
            {"kind": "distribute", "package_id": "A", "url": "http://[::1/x?t=SECRET", "sha256": "0" * 64},
            400,
            'url "http://[::1/x?…": Invalid IPv6 URL',
        ),
        (
            "POST",
            "/v1/jobs",
            {"kind": "distribute", "package_id": "A", "url": "http://x/y", "sha256": "abc"},
            400,
            "expected the 64 hexadecimal digits",
        ),
        ("POST", "/v1/roots/0/drain", None, 409, "drain: not among what"),
        ("GET", "/v1/jobs/99", None, 404, "no job 99; `dpd job list --all`"),
        ("GET", "/v1/jobs/ended?state=waiting", None, 400, "state: "),
        ("GET", "/v1/packages/NONE", None, 404, "'NONE' is neither in the library nor on its way"),
        ("PATCH", "/v1/maintenance", {"reason": "x" * 201}, 400, "reason: "),
    ],
)
async def test_what_is_wrong_is_told(
    api: aiohttp.ClientSession, method: str, target: str, body: Any, status: int, words: str
) -> None:
    answered, reply = await ask(api, method, target, body)
    assert (answered, words in reply["error"]["message"]) == (status, True), reply
