# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.records import Content, FileEntry, Place, RootState
from dpd.content.stock import KEPT_S, Ready, Recipe, Stock
from dpd.errors import ContentError, ContentNotFound, LibraryFull


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    with closing(Stock(tmp_path / "library")) as opened:
        yield opened


def ready(stock: Stock, content: bytes) -> Ready:
    part = stock.roots.folder(0).new_part()
    part.write_bytes(content)
    return Ready(part, hashlib.sha256(content).hexdigest(), len(content), 0, chunk_index=b"index")


def recipe(*parts: Ready, package_id: str = "P") -> Recipe:
    files = [FileEntry(f"{n}", each.size_bytes, each.sha256) for n, each in enumerate(parts)]
    content = Content(
        package_id, 1, ContentKind.PACKAGE, ContentFormat.TREE, "x", 1, "00" * 32, 0, len(files), (), (), 0.0
    )
    return Recipe(lambda: content, files)


def names(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file() and path.parent.parent.name == "blobs"}


def test_content_begins_to_exist_with_its_blobs(stock: Stock, tmp_path: Path) -> None:
    parts = [ready(stock, b"one"), ready(stock, b"two")]
    content = stock.install(recipe(*parts), parts)
    assert names(tmp_path) == {each.sha256 for each in parts}
    assert stock.store.chunks(parts[0].sha256).read_bytes() == b"index"
    assert stock.blobs.loose() == []
    stock.remove(content)
    assert names(tmp_path) == set()
    assert not stock.store.chunks(parts[0].sha256).exists()
    assert stock.blobs.loose() == []
    with pytest.raises(ContentNotFound, match="P version 1 has been removed"):
        stock.remove(content)


def test_what_fails_leaves_neither_rows_nor_files(stock: Stock, tmp_path: Path) -> None:
    part = ready(stock, b"one")
    lacking = Ready(part.part, "ab" * 32, 3, 0)
    with pytest.raises(ContentError, match="1 of its blobs are not in the library"):
        stock.install(recipe(part, lacking), [part])
    assert (names(tmp_path), stock.blobs.loose(), stock.blobs.unneeded()) == (set(), [], [])


def test_what_is_held_stays_until_it_is_released(stock: Stock, tmp_path: Path) -> None:
    part = ready(stock, b"one")
    content = stock.install(recipe(part), [part])
    assert list(stock.hold([part.sha256, "ab" * 32])) == [part.sha256]
    stock.hold([part.sha256])
    stock.remove(content)
    stock.drop([part.sha256])
    assert names(tmp_path) == {part.sha256}
    stock.release([part.sha256])
    assert names(tmp_path) == {part.sha256}
    stock.release([part.sha256, "ab" * 32])
    assert (names(tmp_path), stock.held()) == (set(), frozenset())


def test_what_is_held_and_then_needed_stays(stock: Stock, tmp_path: Path) -> None:
    part = ready(stock, b"one")
    content = stock.install(recipe(part), [part])
    stock.hold([part.sha256])
    stock.remove(content)
    stock.install(recipe(part, package_id="Q"), [])
    stock.release([part.sha256])
    assert names(tmp_path) == {part.sha256}


def test_opening_looks_at_loose_places_alone(tmp_path: Path) -> None:
    with closing(Stock(tmp_path / "library")) as stock:
        part, orphan = ready(stock, b"one"), ready(stock, b"orphan")
        stock.install(recipe(part), [part])
        stock.blobs.note_loose([Place(part.sha256, 0), Place("ab" * 32, 0), Place("cd" * 32, 77)])
        blob = stock.roots.folder(0).blob("ab" * 32)
        blob.parent.mkdir()
        os.replace(orphan.part, blob)
    with closing(Stock(tmp_path / "library")) as stock:
        assert names(tmp_path) == {part.sha256}
        assert stock.blobs.loose() == [Place("cd" * 32, 77)]  # its root is not there now


def test_parts_wait_a_week_for_their_next_try(tmp_path: Path) -> None:
    with closing(Stock(tmp_path / "library")) as stock:
        folder = stock.roots.folder(0)
        young, old, crashed = folder.kept_part("ab" * 32), folder.kept_part("cd" * 32), folder.new_part()
        for part in (young, old, crashed):
            part.write_bytes(b"part")
        os.utime(old, (time.time() - KEPT_S - 60,) * 2)
    Stock(tmp_path / "library").close()
    assert [part.exists() for part in (young, old, crashed)] == [True, False, False]


def test_one_alone_may_go_on_with_a_part(stock: Stock) -> None:
    assert stock.claim("ab" * 32)
    assert not stock.claim("ab" * 32)
    assert stock.is_claimed("ab" * 32)
    stock.disclaim("ab" * 32)
    assert stock.claim("ab" * 32)


def test_a_blob_that_looks_wrong_is_not_used(stock: Stock) -> None:
    part = ready(stock, b"one")
    stock.adopt([part])
    row = stock.blobs.blob(part.sha256)
    assert row is not None
    assert stock.is_usable(row)
    stock.path_of(row).write_bytes(b"on")
    assert not stock.is_usable(row)
    stock.path_of(row).unlink()
    assert not stock.is_usable(row)


def test_a_removal_takes_nothing_that_came_for_something_else(stock: Stock, tmp_path: Path) -> None:
    one, other = ready(stock, b"one"), ready(stock, b"other")
    content = stock.install(recipe(one), [one])
    stock.hold([other.sha256])
    stock.adopt([other])
    stock.remove(content)
    stock.release([other.sha256])
    assert names(tmp_path) == {other.sha256}  # for the next try, until gc


def test_what_cannot_be_adopted_leaves_neither_a_file_nor_a_note(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[Place]:
        raise LibraryFull("library.db: the disk is full")

    monkeypatch.setattr(stock.blobs, "add", full)
    with pytest.raises(LibraryFull):
        stock.adopt([ready(stock, b"one")])
    assert (names(tmp_path), stock.blobs.loose()) == (set(), [])


def test_a_disk_that_keeps_its_files_hinders_no_blob_from_being_elsewhere(stock: Stock, tmp_path: Path) -> None:
    stock.roots.add(tmp_path / "2", 0)
    parts = [ready(stock, b"one"), ready(stock, b"two")]
    stuck = [replace(each, root=1) for each in parts]
    content = stock.install(recipe(*stuck), stuck)
    stock.roots.change(1, state=RootState.DRAINING)
    blob = stock.roots.folder(1).blob(min(each.sha256 for each in parts))
    blob.unlink()
    (blob / "in the way").mkdir(parents=True)
    again = [ready(stock, b"one"), ready(stock, b"two")]
    assert stock.install(recipe(*again), again) == content
    assert stock.roots.status()[1].blobs == 0
    assert stock.blobs.loose() == [Place(blob.name, 1)]
