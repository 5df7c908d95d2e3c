# SPDX-License-Identifier: Apache-2.0
"""Content through the API's real socket: pages, queries, folders, tags, files, garbage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.content.library import Library


@pytest.fixture
def many(library: Library, tmp_path: Path) -> None:
    """LAB1 to LAB5, the even ones with two versions."""
    for n in range(1, 6):
        source = tmp_path / f"image{n}.bin"
        source.write_bytes(b"%d" % n)
        library.publish(source, f"LAB{n}", tags=["even"] if n % 2 == 0 else ["odd", f"number={n}"])
        if n % 2 == 0:
            source.write_bytes(b"%d again" % n)
            library.publish(source, f"LAB{n}", tags=["even"])


async def listed(api: aiohttp.ClientSession, **query: str | int) -> tuple[list[str], str]:
    async with api.get("/v1/content", params=query) as response:
        reply = await response.json()
    assert response.status == 200, reply
    return [f"{each['package_id']}/{each['source_version']}" for each in reply["content"]], reply["next"]


async def last_line(response: aiohttp.ClientResponse) -> Any:
    return [json.loads(line) async for line in response.content][-1]


async def test_pages_follow_each_other(api: aiohttp.ClientSession, many: None) -> None:
    everything = ["LAB1/1", "LAB2/1", "LAB2/2", "LAB3/1", "LAB4/1", "LAB4/2", "LAB5/1"]
    assert await listed(api) == (everything, "")
    assert await listed(api, limit=3) == (everything[:3], "LAB2/2")
    assert await listed(api, limit=3, after="LAB2/2") == (everything[3:6], "LAB4/2")
    assert await listed(api, limit=3, after="LAB4/2") == (everything[6:], "")
    assert await listed(api, limit=7) == (everything, "")


async def test_queries(api: aiohttp.ClientSession, many: None) -> None:
    assert (await listed(api, tags="even", newest="true"))[0] == ["LAB2/2", "LAB4/2"]
    assert (await listed(api, tags="odd,number=3"))[0] == ["LAB3/1"]
    assert (await listed(api, tags="number"))[0] == ["LAB1/1", "LAB3/1", "LAB5/1"]
    assert (await listed(api, text="IMAGE5"))[0] == ["LAB5/1"]
    assert (await listed(api, kind="os-image"))[0] == []


@pytest.mark.parametrize(
    ("query", "key"),
    [({"limit": "0"}, "limit"), ({"kind": "wim"}, "kind"), ({"after": "x"}, "after"), ({"tags": "a b"}, "tags")],
)
async def test_what_cannot_be_asked_is_refused(api: aiohttp.ClientSession, query: dict[str, str], key: str) -> None:
    async with api.get("/v1/content", params=query) as response:
        assert response.status == 400
        assert key in (await response.json())["error"]["message"]


async def test_a_folder_is_published_and_its_files_listed(api: aiohttp.ClientSession, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}").write_bytes(b"%d" % n)
    body = {"path": str(folder), "package_id": "PKG1", "kind": "os-upgrade-package", "tags": ["a=b", "c"]}
    async with api.post("/v1/content", json=body) as response:
        content = (await last_line(response))["content"]
    assert (content["kind"], content["format"], content["file_count"]) == ("os-upgrade-package", "tree", 5)
    assert content["tags"] == ["a=b", "c"]
    async with api.get("/v1/content/PKG1/files", params={"limit": 3}) as response:
        page = await response.json()
    assert ([each["path"] for each in page["files"]], page["next"]) == (["0", "1", "2"], "2")
    async with api.get("/v1/content/PKG1/files", params={"after": "2"}) as response:
        assert [each["path"] for each in (await response.json())["files"]] == ["3", "4"]
    async with api.patch("/v1/content/PKG1/tags", json={"add": ["new"], "remove": ["c"]}) as response:
        assert (await response.json())["tags"] == ["a=b", "new"]
    async with api.post("/v1/sessions", json={"package_id": "PKG1"}) as response:
        message = (await response.json())["error"]["message"]
    assert "a tree of 5 files; multicast sends content of one file" in message
    async with api.get("/v1/library") as response:
        totals = await response.json()
    assert totals == {"contents": 1, "content_bytes": 5, "blobs": 5, "blob_bytes": 5, "saved_bytes": 0}


async def test_an_upload_has_a_kind_and_tags(api: aiohttp.ClientSession, image: Path) -> None:
    query = {"package_id": "LAB1", "name": "x.img", "kind": "boot-image", "tags": "a,b=c"}
    async with api.post("/v1/content", params=query, data=image.open("rb")) as response:
        content = (await last_line(response))["content"]
    assert (content["kind"], content["tags"], content["name"]) == ("boot-image", ["a", "b=c"], "x.img")


async def test_garbage_is_removed_on_demand(api: aiohttp.ClientSession, library: Library, tmp_path: Path) -> None:
    orphan = tmp_path / "library" / "manifests" / f"{'ab' * 32}.json"
    orphan.write_bytes(b"123")
    for delete, is_there in ((False, True), (True, False)):
        async with api.post("/v1/library/gc", json={"delete": delete}) as response:
            report = (await last_line(response))["content"]
        assert (report["orphan_files"], report["deleted"], orphan.exists()) == (1, delete, is_there)
