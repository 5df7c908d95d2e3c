# SPDX-License-Identifier: Apache-2.0
"""Images in content over the API: what its routes take and tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.content.wim_builder import make_wim
from tests.content.wims import needs_wimlib, two_images

from dpd.content.library import Library


async def lines_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    assert response.status == 200, await response.text()
    assert response.content_type == "application/x-ndjson"
    return [json.loads(line) for line in (await response.text()).splitlines()]


@pytest.fixture
def wim(library: Library, tmp_path: Path) -> str:
    (tmp_path / "install.wim").write_bytes(make_wim())
    return library.publish(tmp_path / "install.wim", "LAB1").package_id


async def test_images_are_listed(api: aiohttp.ClientSession, wim: str) -> None:
    async with api.get(f"/v1/content/{wim}/images", params={"source_version": "1", "path": "install.wim"}) as reply:
        found = await reply.json()
    assert (found["package_id"], found["file"], found["compression"]) == ("LAB1", "install.wim", "lzx")
    assert [(image["index"], image["name"]) for image in found["images"]] == [(1, "one")]


async def test_sums_are_compared_line_by_line(api: aiohttp.ClientSession, wim: str) -> None:
    lines = await lines_of(await api.post(f"/v1/content/{wim}/images/verify"))
    assert lines[0].keys() == {"progress"}
    assert lines[-1]["content"]["checked"] == 2


@pytest.mark.parametrize("mark", ["", "x"])
async def test_what_is_no_wim_is_refused(
    api: aiohttp.ClientSession, library: Library, tmp_path: Path, mark: str
) -> None:
    (tmp_path / "disk.img").write_bytes(b"raw" + mark.encode())
    library.publish(tmp_path / "disk.img", "RAW1")
    for response in (await api.get("/v1/content/RAW1/images"), await api.post("/v1/content/RAW1/images/verify")):
        assert (response.status, (await response.json())["error"]["code"]) == (409, "content_refused")


async def test_what_is_not_there_is_not_found(api: aiohttp.ClientSession) -> None:
    body = {"package_id": "NEW"}
    for response in (
        await api.get("/v1/content/GONE/images"),
        await api.post("/v1/content/GONE/images/1/export", json=body),
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (404, "content_not_found")


@pytest.mark.parametrize(
    ("index", "body", "message"),
    [
        ("0", {"package_id": "NEW"}, "index: Expected `int` >= 1"),
        ("1", {"package_id": "a b"}, "package_id: expected 1 to 64 of"),
        ("1", {}, "Object missing required field `package_id`"),
        ("1", {"package_id": "NEW", "surprise": 1}, "Object contains unknown field `surprise`"),
    ],
)
async def test_what_is_wrong_is_named(
    api: aiohttp.ClientSession, wim: str, index: str, body: dict[str, Any], message: str
) -> None:
    async with api.post(f"/v1/content/{wim}/images/{index}/export", json=body) as reply:
        assert (reply.status, (await reply.json())["error"]["message"][: len(message)]) == (400, message)


class TestExport:
    pytestmark = needs_wimlib

    async def test_an_image_becomes_a_package(
        self, api: aiohttp.ClientSession, library: Library, tmp_path: Path
    ) -> None:
        library.publish(two_images(tmp_path), "BOTH")
        lines = await lines_of(await api.post("/v1/content/BOTH/images/2/export", json={"package_id": "CORE"}))
        assert lines[0].keys() == {"progress"}
        last = lines[-1]["content"]
        assert (last["package_id"], last["source_version"], last["name"]) == ("CORE", 1, "install-2.wim")
        assert [image["edition"] for image in last["images"]] == ["Core"]
        async with api.post("/v1/content/BOTH/images/3/export", json={"package_id": "CORE"}) as reply:
            assert reply.status == 409
