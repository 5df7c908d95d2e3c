# SPDX-License-Identifier: Apache-2.0
"""The verbs about content where no door is in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.content.kinds import ContentKind
from dpd.content.library import Content, Library
from dpd.content.records import ContentQuery
from dpd.control.operations.content import ContentOperations, Publishing
from dpd.control.operations.uploads import Upload
from dpd.control.operations.verbs import Operations
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, Unavailable


def unseen(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "drivers"
    (folder / "net").mkdir(parents=True)
    for name in ("a.inf", "net/b.inf", "net/c.sys"):
        (folder / name).write_text(name)
    return folder


async def test_a_folder_is_published_listed_by_file_tagged_and_removed(operations: Operations, tree: Path) -> None:
    verbs = operations.content
    new = Publishing("DRV1", kind=ContentKind.DRIVER_PACKAGE, tags=("vendor=acme",))
    content = await verbs.publish(tree, new, unseen)
    assert (content.kind, content.file_count, content.tags) == ("driver-package", 3, ("vendor=acme",))
    assert [each.path for each in await verbs.files("DRV1", None, "", 2)] == ["a.inf", "net/b.inf"]
    assert [each.path for each in await verbs.files("DRV1", 1, "net/b.inf", 2)] == ["net/c.sys"]
    tagged = await verbs.tag("DRV1", None, ("lab", "vendor=other"), ("vendor=acme", "unknown"))
    assert tagged == replace(content, tags=("lab", "vendor=other"))
    assert await verbs.page(None, 10, ContentQuery(tags=("vendor=other",))) == [tagged]
    with pytest.raises(ContentError, match="expected a word of"):
        await verbs.tag("DRV1", None, ("not a tag!",), ())
    assert await verbs.verify("DRV1", None, unseen) == tagged
    assert await verbs.remove("DRV1") == tagged
    with pytest.raises(ContentNotFound):
        verbs.content("DRV1")
    assert (await verbs.totals()).blobs == 0


async def test_what_reads_much_holds_no_loop_up(
    operations: Operations, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes to the library's tables, such as 500,000 rows of a driver package, keeps readers waiting."""
    may_go_on = threading.Event()
    for name in ("page", "totals"):
        read = getattr(library, name)
        monkeypatch.setattr(library, name, lambda *given, read=read: (may_go_on.wait(10), read(*given))[1])
    pending = asyncio.gather(operations.content.page(None, 10, ContentQuery()), operations.content.totals())
    await asyncio.sleep(0)
    may_go_on.set()
    page, totals = await asyncio.wait_for(pending, 5)
    assert (page, totals.contents) == ([], 0)


async def test_an_upload_is_moved_into_the_library_and_not_copied(
    operations: Operations, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int | None] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 100_000

    real = __import__("dpd.content.publication", fromlist=["take_in"]).take_in

    def watched(source: object, part: Path | None, *rest: object, **options: object) -> object:
        copied.append(part is not None)
        return real(source, part, *rest, **options)

    monkeypatch.setattr("dpd.content.publication.take_in", watched)
    content = await operations.content.publish_upload(Upload("x.img", 100_000, chunks()), Publishing("LAB1"), unseen)
    assert (content.name, copied) == ("x.img", [False])
    library.verify("LAB1")


class Watching:
    """Who is told of changes, and may refuse."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.refuses = False

    def refuse_new_content(self) -> None:
        if self.refuses:
            raise Unavailable("maintenance")

    async def before_removal(self, package_id: str, source_version: int | None) -> None:
        self.told.append(("before", package_id, source_version))

    async def changed(self, package_id: str) -> None:
        self.told.append(("changed", package_id))


async def test_who_watches_is_told_before_and_after_and_may_refuse(
    operations: Operations, library: Library, image: Path
) -> None:
    watch, forgotten = Watching(), list[Content]()
    verbs = ContentOperations(
        library, operations._uploads, operations._job, operations._in_worker, watch, forgotten.append
    )
    content = await verbs.publish(image, Publishing("LAB1", 4), unseen)
    await verbs.remove("LAB1")
    assert watch.told == [("changed", "LAB1"), ("before", "LAB1", 4), ("changed", "LAB1")]
    assert forgotten == [content]
    watch.refuses = True
    with pytest.raises(Unavailable, match="maintenance"):
        await verbs.publish(image, Publishing("LAB1"), unseen)


async def test_garbage_is_told_and_then_removed(operations: Operations, tmp_path: Path, image: Path) -> None:
    await operations.content.publish(image, Publishing("LAB1"), unseen)
    orphan = tmp_path / "library" / "manifests" / f"{'ab' * 32}.json"
    orphan.write_bytes(b"123")
    found = await operations.content.collect(False, unseen)
    assert (found.orphan_files, found.freed_bytes, found.deleted, orphan.exists()) == (1, 3, False, True)
    assert (await operations.content.collect(True, unseen)).orphan_files == 1
    assert not orphan.exists()
    assert (await operations.content.collect(False, unseen)).is_clean


async def test_damage_is_told(operations: Operations, tree: Path, tmp_path: Path) -> None:
    await operations.content.publish(tree, Publishing("DRV1"), unseen)
    next((tmp_path / "library" / "blobs").glob("*/*")).write_text("?")
    with pytest.raises(ContentCorrupt, match="of 3 files damaged"):
        await operations.content.verify("DRV1", None, unseen)
