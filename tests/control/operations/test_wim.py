# SPDX-License-Identifier: Apache-2.0
"""The verbs about images in content, over a real library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.content.wim_builder import HEADER_BYTES, make_wim
from tests.content.wims import needs_wimlib, two_images

from dpd.content.library import Library
from dpd.control.operations.wim import WimOperations, WimPlace
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

T = TypeVar("T")


class Jobs:
    """Counts what a drain would wait for."""

    def __init__(self) -> None:
        self.running = self.begun = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.running, self.begun = self.running + 1, self.begun + 1
        try:
            yield
        finally:
            self.running -= 1


async def in_worker(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def unseen(done: int, total: int) -> None:
    pass


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def operations(library: Library, jobs: Jobs) -> WimOperations:
    return WimOperations(library, jobs, in_worker)


def publish(library: Library, tmp_path: Path, wim: bytes) -> None:
    (tmp_path / "install.wim").write_bytes(wim)
    library.publish(tmp_path / "install.wim", "LAB1")


async def test_what_a_wim_says_is_told(operations: WimOperations, library: Library, tmp_path: Path) -> None:
    publish(library, tmp_path, make_wim())
    found = await operations.images(WimPlace("LAB1"))
    assert (found.source_version, found.file, found.parts) == (1, "install.wim", 1)
    assert (found.compression, found.chunk_bytes, found.has_integrity, found.solid) == ("lzx", 32768, True, False)
    assert (found.blobs, [image.name for image in found.images]) == (2, ["one"])


async def test_a_version_may_be_named(operations: WimOperations, library: Library, tmp_path: Path) -> None:
    publish(library, tmp_path, make_wim())
    publish(library, tmp_path, make_wim(chunk_bytes=0))
    assert (await operations.images(WimPlace("LAB1"))).has_integrity is False
    assert (await operations.images(WimPlace("LAB1", 1))).has_integrity is True
    with pytest.raises(ContentNotFound):
        await operations.images(WimPlace("LAB1", 3))


async def test_sums_are_compared(operations: WimOperations, jobs: Jobs, library: Library, tmp_path: Path) -> None:
    publish(library, tmp_path, make_wim())
    found = await operations.verify(WimPlace("LAB1"), unseen)
    assert (found.resources, found.checked, found.unchecked, found.by_wimlib) == (2, 2, 0, False)
    assert (jobs.begun, jobs.running) == (1, 0)
    wrong = bytearray(make_wim(chunk_bytes=0))
    wrong[HEADER_BYTES] ^= 1
    publish(library, tmp_path, bytes(wrong))
    with pytest.raises(ContentCorrupt, match=r"LAB1 version 2, install\.wim: blob 0 .* has another SHA-1"):
        await operations.verify(WimPlace("LAB1"), unseen)
    assert jobs.running == 0


class TestExport:
    pytestmark = needs_wimlib

    async def test_an_image_is_published(
        self, operations: WimOperations, jobs: Jobs, library: Library, tmp_path: Path
    ) -> None:
        library.publish(two_images(tmp_path), "BOTH")
        content = await operations.export(WimPlace("BOTH"), 2, "CORE", 7, unseen)
        assert (content.source_version, content.images[0].edition) == (7, "Core")
        assert (jobs.begun, jobs.running) == (1, 0)
        assert library.find("CORE") == content

    async def test_a_refusal_leaves_nothing(
        self, operations: WimOperations, jobs: Jobs, library: Library, tmp_path: Path
    ) -> None:
        library.publish(two_images(tmp_path), "BOTH")
        with pytest.raises(ContentError, match="none with index 3"):
            await operations.export(WimPlace("BOTH"), 3, "CORE", None, unseen)
        with pytest.raises(ContentNotFound):
            await operations.export(WimPlace("NONE"), 1, "CORE", None, unseen)
        assert jobs.running == 0
        assert [each.package_id for each in library.contents()] == ["BOTH"]
