# SPDX-License-Identifier: Apache-2.0
"""Bundles over the API: what its routes take, send and refuse."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.control.distributing import Point

from dpd.distribution.bundles.bundle import files_of, open_bundle


@pytest.fixture
def point(tmp_path: Path) -> Point:
    point = Point(tmp_path / "state")
    point.publish()
    return point


@pytest.fixture
async def client(point: Point) -> AsyncIterator[aiohttp.ClientSession]:
    async with point.open() as client:
        yield client


async def test_a_bundle_is_a_file_of_known_length(client: aiohttp.ClientSession, point: Point) -> None:
    async with client.post("/v1/bundles/export", params={"packages": "LAB00001:1"}) as reply:
        archive = await reply.read()
        assert (reply.status, reply.content_type, reply.content_length) == (200, "application/x-tar", len(archive))
    opened = open_bundle(io.BytesIO(archive).read)
    assert opened.signer == point.library.public_key()
    assert len([path for path, _, pieces in files_of(opened) if list(pieces)]) == 5


async def test_it_comes_in_again(client: aiohttp.ClientSession, point: Point) -> None:
    archive = await (await client.post("/v1/bundles/export")).read()
    point.library.remove("LAB00001")
    async with client.post("/v1/bundles/import", data=io.BytesIO(archive)) as reply:
        done = json.loads(await reply.text())["content"]
    assert [content["package_id"] for content in done["contents"]] == ["LAB00001"]
    assert (done["known"], done["received_bytes"], done["present_bytes"]) == ([], 9000, 0)
    point.library.verify("LAB00001")


async def test_a_list_of_what_is_here_leaves_nothing_to_export(client: aiohttp.ClientSession) -> None:
    held = await (await client.get("/v1/bundles/holdings")).read()
    async with client.post("/v1/bundles/export", data=held) as reply:
        assert open_bundle(io.BytesIO(await reply.read()).read).listing.packages == ()


@pytest.mark.parametrize(
    ("query", "body", "status", "code", "words"),
    [
        ({"packages": "LAB00009"}, b"", 404, "content_not_found", "'LAB00009' is not in the library"),
        ({"packages": "a b"}, b"", 409, "content_refused", "expected a package ID"),
        ({}, b"[]", 422, "content_corrupt", "list of holdings"),
        ({"force": "1"}, b"", 400, "bad_request", "force"),
    ],
)
async def test_an_export_that_cannot_be(
    client: aiohttp.ClientSession, query: dict[str, str], body: bytes, status: int, code: str, words: str
) -> None:
    async with client.post("/v1/bundles/export", params=query, data=body) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["code"], words in error["message"]) == (status, code, True), error


async def test_what_is_damaged_cuts_the_bundle_off(client: aiohttp.ClientSession, point: Point) -> None:
    image = point.library.find("LAB00001")
    path = point.folder / "library" / "blobs" / image.sha256[:2] / image.sha256
    path.write_bytes(b"An image\n" * 1000)
    async with client.post("/v1/bundles/export") as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()


async def test_an_import_that_cannot_be(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with client.post("/v1/bundles/import", data=b"MSWIM\0\0\0" * 1000) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (422, "content_corrupt")
    other = Point(tmp_path / "other")
    async with other.open() as exporting:
        other.publish("LAB00003")
        archive = await (await exporting.post("/v1/bundles/export")).read()
    async with client.post("/v1/bundles/import", data=io.BytesIO(archive)) as reply:
        error = (await reply.json())["error"]
    key = other.library.public_key().hex()
    assert (reply.status, f"--key {key}" in error["message"]) == (409, True)
    async with client.post("/v1/bundles/import", params={"key": key}, data=io.BytesIO(archive)) as reply:
        assert reply.status == 200


async def test_who_goes_away_while_sending_leaves_nothing_open(client: aiohttp.ClientSession, point: Point) -> None:
    archive = await (await client.post("/v1/bundles/export")).read()
    point.library.remove("LAB00001")

    async def cut() -> AsyncIterator[bytes]:
        yield archive[: len(archive) // 2]
        raise ConnectionResetError("gone")

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await client.post("/v1/bundles/import", data=cut())
    async with asyncio.timeout(10):
        while point.operations.status().jobs:
            await asyncio.sleep(0.02)
    async with client.post("/v1/bundles/import", data=io.BytesIO(archive)) as reply:
        assert reply.status == 200


async def test_jobs_work_with_files_of_the_daemon(client: aiohttp.ClientSession, point: Point, tmp_path: Path) -> None:
    for body, status in (({}, 400), ({"path": "/a", "repository": "/b"}, 400)):
        async with client.post("/v1/bundles/export-jobs", json=body) as reply:
            assert reply.status == status
    async with client.post("/v1/bundles/export-jobs", json={"path": str(tmp_path / "bundle")}) as reply:
        await ended(client, (await reply.json())["id"])
    point.library.remove("LAB00001")
    async with client.post("/v1/bundles/import-jobs", json={"path": str(tmp_path / "bundle")}) as reply:
        await ended(client, (await reply.json())["id"])
    point.library.verify("LAB00001")


async def ended(client: aiohttp.ClientSession, job: int) -> None:
    async with asyncio.timeout(20):
        while (found := await (await client.get(f"/v1/jobs/{job}")).json())["state"] != "done":
            assert found["state"] in ("queued", "running"), found
            await asyncio.sleep(0.02)
