# SPDX-License-Identifier: Apache-2.0
"""Publishing of folders and split WIMs, and what is told where it fails; test_library holds that of one file."""

import os
import sqlite3
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile
from tests.content.wim_builder import make_wim

from dpd.content.library import Library
from dpd.content.publication import content_name
from dpd.content.storage.root_folder import RootFolder
from dpd.errors import ContentError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    for name, content in (("a", b"same"), ("sub/b", b"same"), ("sub/none", b""), ("large", os.urandom(3 << 20))):
        (folder / name).write_bytes(content)
    return folder


def blobs(root: Path) -> set[str]:
    return {path.name for path in root.glob("blobs/*/*")}


def test_a_folder_comes_back_file_by_file(library: Library, tree: Path, root: Path) -> None:
    content = library.publish(tree, "T")
    assert (content.format, content.kind, content.name, content.file_count) == ("tree", "package", "tree", 4)
    assert (content.slab_count, content.size_bytes) == (0, (3 << 20) + 8)
    assert len(blobs(root)) == 3
    assert library.totals().saved_bytes == 4
    for entry in library.files(content):
        descriptor, size_bytes = library.open_file(content, entry.path)
        with open(descriptor, "rb") as file:
            assert file.read() == (tree / entry.path).read_bytes()
        assert size_bytes == (tree / entry.path).stat().st_size
    library.verify("T")
    with pytest.raises(ContentError, match="T version 1: has no file 'other'"):
        library.open_file(content, "other")
    with pytest.raises(ContentError, match="a tree of 4 files, expected content of one file"):
        library.open_blob(content)
    with pytest.raises(ContentError, match="which has no slab manifest"):
        library.manifest(content)


def test_the_same_folder_again_writes_nothing(
    library: Library, tree: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = library.publish(tree, "T")
    made = {path: path.stat().st_ino for path in root.glob("blobs/*/*")}
    assert library.publish(tree, "T", 1) == first
    assert library.publish(tree, "T").source_version == 2
    assert {path: path.stat().st_ino for path in root.glob("blobs/*/*")} == made
    assert list(root.glob("incoming/*")) == []


def test_an_update_adds_what_has_changed_and_removing_the_old_version_takes_it_away(
    library: Library, tree: Path, root: Path
) -> None:
    library.publish(tree, "T")
    before = blobs(root)
    (tree / "a").write_bytes(b"changed")
    (tree / "sub" / "b").write_bytes(b"changed")
    library.publish(tree, "T")
    assert len(blobs(root) - before) == 1
    library.remove("T", 1)
    assert len(before - blobs(root)) == 1
    library.verify("T")
    library.remove("T")
    assert blobs(root) == set()


def test_other_files_under_the_same_version_are_refused(library: Library, tree: Path, root: Path) -> None:
    first = library.publish(tree, "T", 1)
    before = blobs(root)
    (tree / "a").write_bytes(b"other")
    with pytest.raises(ContentError, match="T version 1 exists with other content"):
        library.publish(tree, "T", 1)
    assert (library.contents(), blobs(root), list(root.glob("incoming/*"))) == ([first], before, [])


def test_a_file_that_changes_while_it_is_read_is_refused(library: Library, tree: Path, root: Path) -> None:
    def change(done: int, total: int) -> None:
        with (tree / "large").open("ab") as file:
            file.write(b"more")

    with pytest.raises(ContentError, match="large: changed while it was read"):
        library.publish(tree, "T", progress=change)
    assert (library.contents(), blobs(root), list(root.glob("incoming/*"))) == ([], set(), [])


def test_progress_counts_all_files(library: Library, tree: Path) -> None:
    calls = list[tuple[int, int]]()
    content = library.publish(tree, "T", progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (content.size_bytes, content.size_bytes)


class Counted:
    """Counts what waits for the disk while it is there."""

    def __init__(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fsyncs = self.commits = 0
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self.fsyncs += 1
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        connection = library._catalogue._database._connection
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(self._saw)

    def _saw(self, statement: str) -> None:
        self.commits += statement == "COMMIT"


@pytest.fixture
def many(tmp_path: Path) -> tuple[Path, Path]:
    folders = (tmp_path / "few", tmp_path / "lots")
    for folder, count in zip(folders, (20, 400), strict=True):
        folder.mkdir()
        for n in range(count):
            (folder / f"{n}").write_bytes(os.urandom(100))
    return folders


def test_neither_waits_nor_transactions_grow_with_the_number_of_files(
    library: Library, many: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for folder in many:
        counted = Counted(library, monkeypatch)
        library.publish(folder, "T")
        library.remove("T")
        counts.append((counted.fsyncs, counted.commits))
        monkeypatch.undo()
    assert counts[0] == counts[1]
    assert counts[0][1] <= 8


def test_no_file_is_read_twice(library: Library, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come out of files below the folder, by all calls that could read them."""
    read = 0
    real_preadv, real_pread = os.preadv, os.pread

    def is_source(descriptor: int) -> bool:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tree))

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        count = real_preadv(descriptor, buffers, offset)
        read += count * is_source(descriptor)
        return count

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        piece = real_pread(descriptor, size, offset)
        read += len(piece) * is_source(descriptor)
        return piece

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pread", pread)
    content = library.publish(tree, "T")
    assert read == content.size_bytes


def test_tags_of_images_are_found_in_a_folder_too(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "install.wim").write_bytes(make_wim())
    (folder / "setup.exe").write_bytes(b"MZ")
    content = library.publish(folder, "MEDIA", tags=["lab"])
    assert [image.name for image in content.images] == ["one"]
    assert "lab" in content.tags


@pytest.mark.parametrize("tag", ["", "a b", "=x", "a=", "a=b=c", "ä", "-a", "a=" + "x" * 201])
def test_tags_are_checked(library: Library, make_file: MakeFile, tag: str) -> None:
    with pytest.raises(ContentError, match="expected a word of A-Z a-z 0-9"):
        library.publish(make_file(), "P", tags=[tag])


def test_a_file_of_ours_is_moved_and_gone_even_where_it_is_refused(
    library: Library, make_file: MakeFile, root: Path
) -> None:
    source = make_file(size_bytes=3 * SLAB_BYTES)
    inode = source.stat().st_ino
    library.publish(source, "P", is_ours=True)
    library.verify("P")
    assert not source.exists()
    assert [path.stat().st_ino for path in root.glob("blobs/*/*")] == [inode]
    other = make_file("other.bin", size_bytes=3 * SLAB_BYTES, seed=2)
    with pytest.raises(ContentError, match="exists with other content"):
        library.publish(other, "P", 1, is_ours=True)
    assert not other.exists()
    assert list(root.glob("incoming/*")) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"plain.wim", "plain.wim"), (b"bad\xff.wim", "bad\ufffd.wim"), (b"a\nb", "a\ufffdb"), ("a\u0308".encode(), "ä")],
)
def test_names_are_texts(name: bytes, shown: str) -> None:
    assert content_name(Path(os.fsdecode(b"/folder/" + name))) == shown


def test_small_parts_of_a_split_wim_are_on_the_disk_before_they_count(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guid, synced = os.urandom(16), list[set[str]]()
    for number, name in enumerate(("install.swm", "install2.swm"), start=1):
        (tmp_path / name).write_bytes(make_wim(guid=guid, part=(number, 2), chunk_bytes=0))
    sync = RootFolder.sync

    def watched(folder: RootFolder) -> None:
        synced.append({path.name for path in folder.parts()})
        assert library.contents() == []
        sync(folder)

    monkeypatch.setattr(RootFolder, "sync", watched)
    assert library.publish(tmp_path / "install.swm", "S").format == "split-wim"
    assert [len(parts) for parts in synced] == [2]
