# SPDX-License-Identifier: Apache-2.0
"""Leaves are right, computed once for many who ask, one slab at a time, and with rests."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.service.http_site import IMAGE, opened_site

from dpd.content.library import Content, Library
from dpd.errors import ContentCorrupt
from dpd.protocol.multicast.geometry import ROW_BYTES, SLAB_BYTES, SYMBOL_BYTES
from dpd.service.http import leaf_source
from dpd.service.http.leaf_source import LeafSource

CONTENT = random.Random(7).randbytes(2 * SLAB_BYTES + 3 * ROW_BYTES + 100)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    (tmp_path / "image").write_bytes(CONTENT)
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        library.publish(tmp_path / "image", "P")
        yield library


@pytest.fixture
def content(library: Library) -> Content:
    return library.find("P")


def expected(image: bytes, slab: int) -> bytes:
    part = image[slab * SLAB_BYTES :][:SLAB_BYTES]
    padded = part + bytes(-len(part) % ROW_BYTES)
    return b"".join(sha256(padded[at : at + SYMBOL_BYTES]).digest()[:8] for at in range(0, len(padded), SYMBOL_BYTES))


@pytest.mark.parametrize("slab", [0, 1, 2])
async def test_a_leaf_for_each_symbol_of_each_row(library: Library, content: Content, slab: int) -> None:
    leaves = await LeafSource(library).leaves(content, slab)
    assert leaves == expected(CONTENT, slab)
    assert len(leaves) == (4 if slab == 2 else 128) * 32 * 8


async def test_many_who_ask_for_one_slab_cost_one_computation(library: Library, content: Content) -> None:
    source = LeafSource(library)
    answers = await asyncio.gather(*[source.leaves(content, 1) for _ in range(30)])
    assert answers == [expected(CONTENT, 1)] * 30
    assert await source.leaves(content, 1) == expected(CONTENT, 1)
    assert source.computed == 1


async def test_one_slab_at_a_time_with_a_rest_behind_each(
    library: Library, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf_source, "REST_PER_WORK", 1e6)
    source = LeafSource(library)
    assert await source.leaves(content, 0)
    second = asyncio.ensure_future(source.leaves(content, 1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(second), 0.2)
    assert await source.leaves(content, 0), "what is kept needs no turn"
    assert source.computed == 1
    second.cancel()


async def test_the_rest_ends(library: Library, content: Content) -> None:
    source = LeafSource(library)
    async with asyncio.timeout(30):
        for slab in (0, 1, 2):
            assert await source.leaves(content, slab)
    assert source.computed == 3


async def test_a_queue_too_long_is_refused(library: Library, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf_source, "MAX_WAITING", 1)
    source = LeafSource(library)
    answers = await asyncio.gather(*[source.leaves(content, slab) for slab in (0, 1, 2)])
    assert answers == [expected(CONTENT, 0), expected(CONTENT, 1), None]
    assert source.refused == 1


async def test_only_the_latest_are_kept(library: Library, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf_source, "KEPT_SLABS", 2)
    source = LeafSource(library)
    for slab in (0, 1, 0, 2, 0, 1):  # 0 was asked for again before 2 came: 1 goes
        assert await source.leaves(content, slab)
    assert source.computed == 4


async def test_a_file_that_became_shorter_is_told_and_the_next_is_served(library: Library, content: Content) -> None:
    descriptor = library.open_blob(content)
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)
    os.truncate(path, SLAB_BYTES + 5)
    source = LeafSource(library)
    with pytest.raises(ContentCorrupt, match="its file ends within slab 1; `dpd content verify`"):
        await source.leaves(content, 1)
    assert await source.leaves(content, 0) == expected(CONTENT, 0)


async def test_the_route(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        status, headers, body = await site.ask("/content/LAB00001/3/leaves/0")
        assert (status, body) == (200, expected(IMAGE, 0))
        assert headers["Content-Type"] == "application/octet-stream"
        for path, refused in {
            "/content/LAB00001/3/leaves/1": 404,
            "/content/LAB00001/3/leaves/-1": 404,
            "/content/LAB00001/3/leaves/x": 404,
            "/content/LAB00001/4/leaves/0": 404,
            "/content/NONE/1/leaves/0": 404,
            "/content/LAB00001/x/leaves/0": 400,
        }.items():
            assert (await site.ask(path))[0] == refused, path
        assert site.service.stats.requests["leaves"] == 7


async def test_the_route_says_when_it_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf_source, "MAX_WAITING", 0)
    async with opened_site(tmp_path) as site:
        status, headers, body = await site.ask("/content/LAB00001/3/leaves/0")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert b"leaves_busy" in body
