# SPDX-License-Identifier: Apache-2.0
"""Boot images over the API: what its routes take and tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.boot.conftest import efi_program

PROGRAM = efi_program()


async def lines_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    assert response.status == 200, await response.text()
    assert response.content_type == "application/x-ndjson"
    return [json.loads(line) for line in (await response.text()).splitlines()]


async def upload(api: aiohttp.ClientSession, image_id: str = "EFI1", **query: str) -> aiohttp.ClientResponse:
    parts = json.dumps([{"name": "tool.efi", "size_bytes": len(PROGRAM)}])
    given = {"image_id": image_id, "kind": "efi", "parts": parts} | query
    return await api.post("/v1/boot-images", params=given, data=PROGRAM)


async def test_an_image_is_sent_listed_shown_and_removed(api: aiohttp.ClientSession) -> None:
    last = (await lines_of(await upload(api, description="Tool", is_default="true")))[-1]["content"]
    assert (last["image_id"], last["version"], last["description"], last["is_default"]) == ("EFI1", 1, "Tool", True)
    assert last["firmware"] == ["uefi-x64"]
    async with api.get("/v1/boot-images") as reply:
        assert (await reply.json())["boot_images"] == [last]
    async with api.get("/v1/boot-images/EFI1", params={"version": "1"}) as reply:
        assert await reply.json() == last
    async with api.delete("/v1/boot-images/EFI1") as reply:
        assert await reply.json() == last
    async with api.get("/v1/boot-images/EFI1") as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (404, "content_not_found")


async def test_files_that_the_daemon_can_read_are_named(api: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "tool.efi").write_bytes(PROGRAM)
    body = {"image_id": "EFI1", "kind": "efi", "files": [str(tmp_path / "tool.efi")], "via_ipxe": True}
    lines = await lines_of(await api.post("/v1/boot-images", json=body))
    assert lines[0] == {"progress": {"done_bytes": len(PROGRAM), "total_bytes": len(PROGRAM)}}
    assert lines[-1]["content"]["via_ipxe"] is True


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"image_id": "a b"}, 400, "image_id: expected 1 to 64 of A-Z a-z 0-9 . _ -"),
        ({"kind": "dos"}, 400, "kind: Invalid enum value 'dos'"),
        ({"architecture": "mips"}, 400, "architecture: expected x86, x64 or arm64"),
        ({"parts": "[{}]"}, 400, "parts: Object missing required field `name`"),
        ({"parts": '[{"name": "../x", "size_bytes": 1}]'}, 400, "parts: "),
        ({"parts": "no"}, 400, "parts: "),
        ({"parts": "[]"}, 409, "boot image of 0 files: expected one EFI program"),
        ({"command_line": "a ; b", "kind": "linux"}, 409, "command line: the word ; ends a command"),
        ({"surprise": "1"}, 400, "Object contains unknown field `surprise`"),
    ],
)
async def test_what_is_wrong_is_named(
    api: aiohttp.ClientSession, query: dict[str, str], status: int, message: str
) -> None:
    reply = await upload(api, **query)
    assert (reply.status, (await reply.json())["error"]["message"][: len(message)]) == (status, message)


async def test_an_id_is_needed(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/boot-images", params={"parts": "[]"}, data=b"") as reply:
        assert (await reply.json())["error"]["message"].startswith("image_id: missing")


async def test_what_is_no_wim_has_a_status_of_its_own(api: aiohttp.ClientSession) -> None:
    parts = json.dumps([{"name": "boot.wim", "size_bytes": 500}])
    given = {"image_id": "PE", "kind": "winpe", "parts": parts}
    async with api.post("/v1/boot-images", params=given, data=bytes(500)) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (422, "content_corrupt")


async def test_only_a_wim_is_refreshed(api: aiohttp.ClientSession) -> None:
    await lines_of(await upload(api))
    async with api.post("/v1/boot-images/EFI1/refresh") as reply:
        assert reply.status == 409
    async with api.post("/v1/boot-images/GONE/refresh") as reply:
        assert reply.status == 404
