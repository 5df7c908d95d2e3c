# SPDX-License-Identifier: Apache-2.0
"""A client asks for what is not here: it comes, and the client gets it while it comes, or hears why not."""

from __future__ import annotations

import asyncio
import http.client
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.distribution.origin import SLAB_BYTES, Asked, Misbehave, Origin, Reply, repository_files
from tests.service.repository_site import Dpd, opened_dpd

from dpd.content.library import Library
from dpd.content_settings import SourceSettings

IMAGE = random.Random(1).randbytes((4 << 20) + 9)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "image.bin").write_bytes(IMAGE)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x").write_bytes(IMAGE[:1000])
    with Library(tmp_path / "publisher", slab_bytes=SLAB_BYTES) as library:
        first = library.publish(tmp_path / "image.bin", "LAB00001", 3)
        return repository_files(library, first, library.publish(tmp_path / "tree", "TREE", 1))


def source(origin: Origin) -> SourceSettings:
    return SourceSettings(name="hq", url=origin.url)


@asynccontextmanager
async def opened_dpd_of(
    folder: Path, files: dict[str, bytes], misbehave: Misbehave = lambda asked, reply: None
) -> AsyncIterator[tuple[Dpd, Origin]]:
    """A dpd that fetches on a miss from an origin with these files."""
    folder.mkdir(exist_ok=True)
    with Origin(dict(files), misbehave) as origin:
        async with opened_dpd(folder / "dpd", source(origin), fetch_on_miss=True) as dpd:
            yield dpd, origin


async def test_the_client_gets_all_of_it_and_it_is_here_then(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, origin):
        status, headers, body = await dpd.ask("/content/LAB00001")
        assert (status, body == IMAGE) == (200, True)
        assert headers["Content-Location"] == "/content/LAB00001/3"
        assert headers["Accept-Ranges"] == "bytes"
        async with asyncio.timeout(10):
            while not dpd.site.library.contents():
                await asyncio.sleep(0.01)
        before = len(origin.asked)
        assert (await dpd.ask("/content/LAB00001/3"))[2] == IMAGE
        assert len(origin.asked) == before
        assert dpd.submitted == [("LAB00001", None)]


async def test_bytes_flow_before_the_pull_has_ended(tmp_path: Path, files: dict[str, bytes]) -> None:
    def hold(asked: Asked, reply: Reply) -> None:
        if "/blobs/" in asked.path:
            origin.pause_s = 0.02  # 3 MiB/s: more than a second

    async with opened_dpd_of(tmp_path, files, hold) as (dpd, origin):

        def read_first() -> tuple[float, float, bytes]:
            client = http.client.HTTPConnection("127.0.0.1", dpd.service.ports["http"], timeout=20)
            begun = time.monotonic()
            client.request("GET", "/content/LAB00001/3")
            response = client.getresponse()
            first = response.read(100_000)
            first_s = time.monotonic() - begun
            rest = response.read()
            client.close()
            return first_s, time.monotonic() - begun, first + rest

        first_s, all_s, body = await asyncio.to_thread(read_first)
        assert body == IMAGE
        assert first_s < 0.6 * all_s


async def test_many_clients_share_one_pull(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, origin):
        answers = await asyncio.gather(*(dpd.ask("/content/LAB00001") for _ in range(12)))
        assert all(body == IMAGE for _, _, body in answers)
        assert len(origin.paths("/blobs/")) == 1


async def test_a_range_and_a_head(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, _):
        status, headers, body = await dpd.ask("/content/LAB00001", method="HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(IMAGE)), b"")
    async with opened_dpd_of(tmp_path / "second", files) as (dpd, _):
        begin = len(IMAGE) - 50_000
        status, headers, body = await dpd.ask("/content/LAB00001", Range=f"bytes={begin}-")
        assert (status, body == IMAGE[begin:]) == (206, True)
        assert headers["Content-Range"] == f"bytes {begin}-{len(IMAGE) - 1}/{len(IMAGE)}"


async def test_a_liar_gives_the_client_no_wrong_byte(tmp_path: Path, files: dict[str, bytes]) -> None:
    """The third slab is wrong: the client has two good ones at the most, then the connection is cut."""

    def lie(asked: Asked, reply: Reply) -> None:
        if "/blobs/" in asked.path:
            reply.body = reply.body[: 2 * SLAB_BYTES + 5] + b"?" + reply.body[2 * SLAB_BYTES + 6 :]

    async with opened_dpd_of(tmp_path, files, lie) as (dpd, _):
        status, body = await _ask_until_cut(dpd)
        if status == 503:  # it had failed before anything of it could be sent
            assert b"slab 2" in body
        else:
            assert IMAGE.startswith(body)
            assert len(body) <= 2 * SLAB_BYTES
        assert dpd.site.library.contents() == []
        assert dpd.site.outcomes() == {"hq": ["wrong_hash"]}


async def _ask_until_cut(dpd: Dpd) -> tuple[int, bytes]:
    """Status (0 where the connection was cut), and what came of the body."""
    try:
        status, _, body = await dpd.ask("/content/LAB00001")
    except http.client.IncompleteRead as error:
        return 0, error.partial
    except ConnectionError:
        return 0, b""
    return status, body


async def test_what_no_source_has_makes_no_job_and_is_asked_once(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, origin):
        for _ in range(5):
            status, _, body = await dpd.ask("/content/NONE")
            assert (status, "neither here nor at any source" in body.decode()) == (404, True)
        assert dpd.submitted == []
        assert len(origin.asked) == 1


async def test_it_is_off_unless_switched_on(tmp_path: Path, files: dict[str, bytes]) -> None:
    with Origin(files) as origin:
        async with opened_dpd(tmp_path / "off", source(origin)) as dpd:
            assert (await dpd.ask("/content/LAB00001"))[0] == 404
            assert origin.asked == []


async def test_maintenance_refuses_in_words(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, _):
        dpd.refuses = "maintenance: no new content until noon"
        status, headers, body = await dpd.ask("/content/LAB00001")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "no new content until noon" in body.decode()


async def test_a_tree_is_fetched_and_the_client_told_to_come_again(tmp_path: Path, files: dict[str, bytes]) -> None:
    async with opened_dpd_of(tmp_path, files) as (dpd, _):
        status, _, body = await dpd.ask("/content/TREE")
        if status == 503:
            assert "has 1 files and is being fetched" in body.decode()
        async with asyncio.timeout(10):
            while not dpd.site.library.contents():
                await asyncio.sleep(0.01)


async def test_a_source_that_is_away_is_told(tmp_path: Path) -> None:
    away = SourceSettings(name="hq", url="http://127.0.0.1:1")
    async with opened_dpd(tmp_path / "dpd", away, fetch_on_miss=True) as dpd:
        status, _, body = await dpd.ask("/content/LAB00001")
        assert (status, "hq: Connection refused" in body.decode()) == (503, True)
