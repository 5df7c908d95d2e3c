# SPDX-License-Identifier: Apache-2.0
"""Roots over a real Unix socket and a real library: every route, and how a refusal is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.content.library import Library


async def ask(api: aiohttp.ClientSession, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    async with api.request(method, target, **({} if body is None else {"json": body})) as response:
        return response.status, await response.json()


async def test_roots_come_are_changed_and_go(
    api: aiohttp.ClientSession, library: Library, tmp_path: Path, image: Path
) -> None:
    status, reply = await ask(api, "GET", "/v1/roots")
    own = reply["roots"][0]
    assert (status, own["id"], own["path"], own["state"]) == (200, 0, str(tmp_path / "library"), "active")
    assert 0 < own["free_bytes"] <= own["total_bytes"]
    body = {"path": str(tmp_path / "disk2"), "reserve_bytes": 1 << 20}
    status, added = await ask(api, "POST", "/v1/roots", body)
    assert (status, added["id"], added["reserve_bytes"], added["blobs"]) == (200, 1, 1 << 20, 0)
    status, changed = await ask(api, "PATCH", "/v1/roots/0", {"reserve_bytes": 1 << 59})
    assert (status, changed["reserve_bytes"], changed["state"]) == (200, 1 << 59, "active")
    library.publish(image, "P")
    (_, holding) = (await ask(api, "GET", "/v1/roots"))[1]["roots"]
    assert (holding["blobs"], holding["blob_bytes"]) == (1, image.stat().st_size)
    status, reply = await ask(api, "DELETE", "/v1/roots/1")
    assert (status, reply["error"]["code"]) == (409, "content_refused")
    assert "is active and holds 1 blobs; run `dpd root drain 1` first" in reply["error"]["message"]
    await ask(api, "PATCH", "/v1/roots/0", {"reserve_bytes": 0})
    library.drain_root(1)
    assert (await ask(api, "GET", "/v1/roots"))[1]["roots"][1]["state"] == "empty"
    status, removed = await ask(api, "DELETE", "/v1/roots/1")
    assert (status, removed["id"]) == (200, 1)
    assert len((await ask(api, "GET", "/v1/roots"))[1]["roots"]) == 1
    library.verify("P")


async def test_a_root_may_take_no_new_content_and_then_again(api: aiohttp.ClientSession, tmp_path: Path) -> None:
    await ask(api, "POST", "/v1/roots", {"path": str(tmp_path / "disk2")})
    assert (await ask(api, "PATCH", "/v1/roots/1", {"active": False}))[1]["state"] == "empty"
    assert (await ask(api, "PATCH", "/v1/roots/1", {"active": True}))[1]["state"] == "active"


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "reason"),
    [
        ("PATCH", "/v1/roots/9", {"reserve_bytes": 0}, 404, "there is no root 9; `dpd root list`"),
        ("DELETE", "/v1/roots/9", None, 404, "there is no root 9"),
        ("DELETE", "/v1/roots/0", None, 409, "root 0 is the library's own folder"),
        ("POST", "/v1/roots", {"path": "relative"}, 400, "path"),
        ("POST", "/v1/roots", {"path": "/x", "reserve_bytes": -1}, 400, "reserve_bytes"),
        ("PATCH", "/v1/roots/0", {"reserve": 1}, 400, "reserve"),
        ("PATCH", "/v1/roots/-1", {}, 400, "root"),
    ],
)
async def test_a_refusal_is_told(
    api: aiohttp.ClientSession, method: str, target: str, body: Any, status: int, reason: str
) -> None:
    told, reply = await ask(api, method, target, body)
    assert told == status
    assert reason in reply["error"]["message"]


async def test_a_folder_that_belongs_to_another_library_is_refused(api: aiohttp.ClientSession, tmp_path: Path) -> None:
    with Library(tmp_path / "other", slab_bytes=4096) as other:
        other.add_root(tmp_path / "theirs")
    for path, reason in ((tmp_path / "theirs", "that of another root"), (tmp_path / "other", "of something else")):
        status, reply = await ask(api, "POST", "/v1/roots", {"path": str(path)})
        assert status == 409
        assert reason in reply["error"]["message"]
