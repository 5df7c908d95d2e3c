# SPDX-License-Identifier: Apache-2.0
"""Content for steps: nothing leaves that does not match what the point signed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.target.point import Point, opened_point

from dpd.errors import ContentCorrupt, ContentNotFound
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.work.content import ContentSource


def source_of(point: Point, **options: object) -> ContentSource:
    return ContentSource(point.url, public_key=point.library.public_key(), **options)  # type: ignore[arg-type]


def blob_of(home: Path, size_bytes: int) -> Path:
    (found,) = [each for each in (home / "library").rglob("*") if each.is_file() and each.stat().st_size == size_bytes]
    return found


async def test_a_stream_has_the_bytes_in_their_order(tmp_path: Path) -> None:
    async with opened_point(tmp_path) as point:
        seen: list[tuple[int, int, str]] = []

        def read() -> bytes:
            stream = source_of(point).stream("LAB00001", 1, lambda *each: seen.append(each))
            return b"".join(bytes(piece) for piece in stream)

        assert await asyncio.to_thread(read) == point.image.read_bytes()
        size = point.image.stat().st_size
        assert seen[-1] == (size, size, "stream")


async def test_a_damaged_slab_is_asked_for_again_and_never_given_out(tmp_path: Path) -> None:
    async with opened_point(tmp_path, size_bytes=7_000_000) as point:
        place = blob_of(tmp_path, 7_000_000)
        os.chmod(place, 0o644)
        with place.open("r+b") as file:
            file.seek(6_500_000)
            file.write(bytes(100))
        told: list[str] = []
        source = source_of(point, tell=told.append)
        source.patience_s = 5.0
        good: list[int] = []

        def read() -> None:
            for piece in source.stream("LAB00001", 1, lambda *_: None):
                good.append(len(piece))

        with pytest.raises((ContentCorrupt, Unreachable)):
            await asyncio.to_thread(read)
        assert len(good) == 1


async def test_a_check_ends_it_in_the_middle(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    async with opened_point(tmp_path) as point:
        seen: list[int] = []

        def check() -> None:
            if seen:
                raise Ended

        source = source_of(point, check=check)
        with pytest.raises(Ended):
            await asyncio.to_thread(
                source.receive,
                "LAB00001",
                1,
                tmp_path / "out",
                lambda done, total, way: seen.append(done),
                by_multicast=False,
            )
        assert not (tmp_path / "out").exists()
        assert (tmp_path / "out.part").exists()


async def test_the_newest_version_is_described_and_another_by_its_number(tmp_path: Path) -> None:
    async with opened_point(tmp_path, size_bytes=1000) as point:
        second = tmp_path / "second"
        second.write_bytes(b"x" * 500)
        point.library.publish(second, "LAB00001")
        source = source_of(point)
        assert (await asyncio.to_thread(source.describe, "LAB00001")).source_version == 2
        assert (await asyncio.to_thread(source.describe, "LAB00001", 1)).size_bytes == 1000
        with pytest.raises(ContentNotFound):
            await asyncio.to_thread(source.describe, "LAB00001", 7)
        with pytest.raises(ContentNotFound):
            await asyncio.to_thread(source.describe, "NONE")


async def test_a_point_that_comes_back_within_the_patience_is_waited_for(tmp_path: Path) -> None:
    async with opened_point(tmp_path, size_bytes=1000) as point:
        await point.http.stop()
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        source = source_of(point, tell=lambda text: loop.call_soon_threadsafe(told.set))
        source.patience_s = 0.3
        with pytest.raises(Unreachable):
            await asyncio.to_thread(source.describe, "LAB00001")
        assert told.is_set()
        await point.http.start()


async def test_a_small_machine_assembles_fewer_slabs_at_once() -> None:
    assert ContentSource("http://127.0.0.1:1", ram_bytes=512 << 20)._slots < ContentSource("http://127.0.0.1:1")._slots
