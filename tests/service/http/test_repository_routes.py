# SPDX-License-Identifier: Apache-2.0
"""A dpd as a source: every path of the layout, ranges, what is refused, and a pull by another dpd, also through a third."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from tests.service.repository_site import opened_dpd

from dpd.content import repository
from dpd.content.chunks import ChunkIndex
from dpd.content.description import decode_signed as decode_description
from dpd.content.manifest import decode_signed as decode_manifest
from dpd.content_settings import SourceSettings
from dpd.errors import SourceUnavailable

IMAGE = random.Random(1).randbytes((3 << 20) + 9)
DIGEST = sha256(IMAGE).hexdigest()


def published(folder: Path, content: bytes = IMAGE) -> Path:
    path = folder / "image.bin"
    path.write_bytes(content)
    return path


async def test_each_path_has_what_the_layout_says(tmp_path: Path) -> None:
    async with opened_dpd(tmp_path / "a") as a:
        library = a.site.library
        library.publish(published(tmp_path), "LAB00001", 3)
        status, headers, body = await a.ask(f"/{repository.IDENTITY}")
        assert (status, headers["Server"]) == (200, "dpd")
        assert repository.decode_identity(body).public_key == library.public_key()
        _, _, body = await a.ask(f"/{repository.newest('LAB00001')}")
        assert repository.decode_newest(body) == 3
        _, _, body = await a.ask(f"/{repository.description('LAB00001', 3)}")
        assert decode_description(body, library.public_key()).sha256 == DIGEST
        _, _, body = await a.ask(f"/{repository.manifest('LAB00001', 3)}")
        assert decode_manifest(body, library.public_key()).sha256 == DIGEST
        _, _, body = await a.ask(f"/{repository.chunks(DIGEST)}")
        assert ChunkIndex.decode(body).size_bytes == len(IMAGE)
        status, headers, body = await a.ask(f"/{repository.blob(DIGEST)}")
        assert (status, body, headers["ETag"]) == (200, IMAGE, f'"{DIGEST}"')
        status, headers, body = await a.ask(f"/{repository.blob(DIGEST)}", Range="bytes=5-8")
        assert (status, body, headers["Content-Range"]) == (206, IMAGE[5:9], f"bytes 5-8/{len(IMAGE)}")
        status, headers, body = await a.ask(f"/{repository.blob(DIGEST)}", method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(IMAGE)))
        status, headers, body = await a.ask(f"/{repository.manifest('LAB00001', 3)}", method="HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("repository/v1", 404, "no path of a repository"),
        ("repository/v2/identity", 404, "no path of a repository"),
        ("repository/v1/blobs/xyz", 404, "no path of a repository"),
        (repository.blob("0" * 64), 404, "0000"),
        (repository.newest("NONE"), 404, "is not in the library"),
        (repository.description("LAB00001", 9), 404, "has no version 9"),
        (repository.manifest("TREE", 1), 404, "has no slab manifest"),
    ],
)
async def test_what_is_not_there(tmp_path: Path, path: str, status: int, words: str) -> None:
    async with opened_dpd(tmp_path / "a") as a:
        a.site.library.publish(published(tmp_path), "LAB00001", 3)
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "x").write_bytes(b"x")
        a.site.library.publish(tmp_path / "tree", "TREE", 1)
        found, _, body = await a.ask(f"/{path}")
        assert (found, words in body.decode()) == (status, True), body
        found, _, body = await a.ask(f"/{path}", method="POST")
        assert found == 405


async def test_another_dpd_pulls_and_no_story_is_told_of_it(tmp_path: Path) -> None:
    async with (
        opened_dpd(tmp_path / "a") as a,
        opened_dpd(tmp_path / "b", SourceSettings(name="a", url=a.url)) as b,
    ):
        a.site.library.publish(published(tmp_path), "LAB00001", 3)
        content = await asyncio.to_thread(b.site.pull)
        assert content.sha256 == DIGEST
        assert b.site.library.damage(content) == []
        assert a.service.stats.requests["repository"] >= 5
        assert a.journal.machines() == []


async def test_a_chain_fetches_on_a_request_of_the_one_below(tmp_path: Path) -> None:
    async with (
        opened_dpd(tmp_path / "a") as a,
        opened_dpd(tmp_path / "b", SourceSettings(name="a", url=a.url), fetch_on_miss=True) as b,
        opened_dpd(tmp_path / "c", SourceSettings(name="b", url=b.url)) as c,
    ):
        a.site.library.publish(published(tmp_path), "LAB00001", 3)
        with pytest.raises(SourceUnavailable, match="is being fetched here; try again soon"):
            await asyncio.to_thread(c.site.pull)
        async with asyncio.timeout(20):
            while True:
                try:
                    await asyncio.to_thread(c.site.pull)
                    break
                except SourceUnavailable:
                    await asyncio.sleep(0.1)
        assert [each.site.library.find("LAB00001").sha256 for each in (b, c)] == [DIGEST] * 2


async def test_two_that_are_each_others_source_do_not_chase_what_nobody_has(tmp_path: Path) -> None:
    async with (
        opened_dpd(tmp_path / "a", fetch_on_miss=True) as a,
        opened_dpd(tmp_path / "b", SourceSettings(name="a", url=a.url), fetch_on_miss=True) as b,
    ):
        a.site.puller.apply(replace(a.site.settings, source=(SourceSettings(name="b", url=b.url),)))
        status, _, body = await a.ask(f"/{repository.newest('NONE')}")
        assert status == 404, body
        assert a.submitted == b.submitted == []
        counts = [each.service.stats.requests["repository"] for each in (a, b)]
        assert counts[1] == 1
        assert counts[0] <= 2
        status, _, body = await a.ask(f"/{repository.newest('OTHER')}", X_Dpd_Via=a.site.puller.own_id)
        assert (status, "that asked this one" in body.decode()) == (404, True)
        hops = ", ".join(f"{n:032x}" for n in range(8))
        status, _, body = await a.ask(f"/{repository.newest('OTHER')}", X_Dpd_Via=hops)
        assert (status, "through 8 of them" in body.decode()) == (404, True)


async def test_maintenance_closes_the_repository_in_words(tmp_path: Path) -> None:
    async with opened_dpd(tmp_path / "a") as a:
        a.site.library.publish(published(tmp_path), "LAB00001", 3)
        a.closed = "new disks until noon"
        for path in (f"/{repository.IDENTITY}", "/content/LAB00001", "/content/LAB00001/manifest"):
            status, headers, body = await a.ask(path)
            assert (status, headers["Retry-After"]) == (503, "60")
            assert "maintenance: new disks until noon" in body.decode()
        assert (await a.ask("/healthz"))[0] == 200
        a.closed = ""
        assert (await a.ask("/content/LAB00001"))[2] == IMAGE
