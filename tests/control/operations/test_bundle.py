# SPDX-License-Identifier: Apache-2.0
"""The verbs about bundles over two real libraries."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.distributing import Point

from dpd.errors import ContentCorrupt, ContentError, Unavailable


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Point]:
    point = Point(tmp_path / "origin")
    async with point.open():
        point.publish()
        yield point


@pytest.fixture
async def branch(tmp_path: Path) -> AsyncIterator[Point]:
    point = Point(tmp_path / "branch")
    async with point.open():
        yield point


async def export(point: Point, *packages: str, since: bytes = b"") -> bytes:
    bundle, kept = await point.operations.bundles.prepare(packages, since), io.BytesIO()
    await point.operations.bundles.write(bundle, _Outlet(kept))
    return kept.getvalue()


class _Outlet:
    def __init__(self, kept: io.BytesIO) -> None:
        self._kept = kept

    def write(self, piece: bytes | memoryview, /) -> None:
        self._kept.write(piece)

    def flush(self) -> None:
        """Nothing is held."""


async def test_content_goes_over_and_is_told(origin: Point, branch: Point) -> None:
    archive = await export(origin)
    key = origin.library.public_key().hex()
    with pytest.raises(ContentError, match=f"--key {key}"):
        await branch.operations.bundles.take(io.BytesIO(archive).read, "")
    before = branch.events.latest
    done = await branch.operations.bundles.take(io.BytesIO(archive).read, key)
    assert [content.package_id for content in done.contents] == ["LAB00001"]
    assert [event.event for event in branch.events.after(before)] == ["content.imported", "content.state"]
    branch.library.verify("LAB00001")


async def test_our_own_bundles_are_trusted(origin: Point) -> None:
    archive = await export(origin)
    origin.library.remove("LAB00001")
    done = await origin.operations.bundles.take(io.BytesIO(archive).read, "")
    assert len(done.contents) == 1


async def test_what_the_other_one_has_is_left_out(origin: Point, branch: Point) -> None:
    await branch.operations.bundles.take(io.BytesIO(await export(origin)).read, origin.library.public_key().hex())
    origin.publish("LAB00002", b"another one")
    held = await branch.operations.bundles.holdings()
    bundle = await origin.operations.bundles.prepare([], held)
    done = await branch.operations.bundles.take(
        io.BytesIO(await export(origin, since=held)).read, origin.library.public_key().hex()
    )
    assert [content.package_id for content in done.contents] == ["LAB00002"]
    assert bundle.size_bytes <= 20480
    with pytest.raises(ContentCorrupt, match="list of holdings: not JSON"):
        await origin.operations.bundles.prepare([], b"{")


async def test_jobs_do_the_same_with_files(origin: Point, tmp_path: Path) -> None:
    job = await origin.operations.bundles.order_export({"path": str(tmp_path / "bundle"), "since": ""}, "tester")
    assert (job.options, job.actor) == ({"path": str(tmp_path / "bundle")}, "tester")
    with pytest.raises(ContentError, match="64 lower-case hexadecimal digits"):
        await origin.operations.bundles.order_import({"path": "/x", "key": "short"}, "tester")


async def test_in_maintenance_nothing_comes_in(origin: Point) -> None:
    archive = await export(origin)
    await origin.operations.jobs.set_maintenance("moving", "tester")
    with pytest.raises(Unavailable, match="maintenance"):
        await origin.operations.bundles.take(io.BytesIO(archive).read, "")
