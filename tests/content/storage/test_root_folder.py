# SPDX-License-Identifier: Apache-2.0
"""A root's files: names, what a crash leaves, and a marker without which nothing is written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from dpd.content.storage.root_folder import MARKER, Adopted, RootFolder, mark
from dpd.errors import ContentError, LibraryInUse

A, B = "a" * 64, "b" * 64
OURS, THEIRS = "00000000000000aa", "00000000000000bb"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk2"
    mark(path, 1, OURS, {})
    return path


def make_part(folder: RootFolder, content: bytes) -> Path:
    part = folder.new_part()
    part.write_bytes(content)
    return part


def files_of(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


def test_a_marked_folder_opens_as_the_root_it_is(path: Path) -> None:
    folder = RootFolder.added(1, path, OURS)
    assert (folder.number, folder.free_bytes() > 0) == (1, True)
    assert json.loads((path / MARKER).read_bytes()) == {"format": "dpd-root/1", "library": OURS, "root": 1}
    folder.close()
    folder.close()


@pytest.mark.parametrize(("number", "library"), [(2, OURS), (1, THEIRS)])
def test_the_root_of_another_number_or_library_is_refused(path: Path, number: int, library: str) -> None:
    before = files_of(path)
    with pytest.raises(ContentError, match=r"disk2: its dpd-root\.json is that of another root .*mount the right disk"):
        RootFolder.added(number, path, library)
    assert files_of(path) == before


def test_an_empty_mount_point_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    for path in (tmp_path / "mount", tmp_path / "nowhere"):
        with pytest.raises(
            ContentError, match=r"not there, or without dpd-root\.json; mount the disk that holds root 3"
        ):
            RootFolder.added(3, path, OURS)
    assert os.listdir(tmp_path) == ["mount"]
    assert os.listdir(tmp_path / "mount") == []


def test_a_root_has_one_owner(path: Path) -> None:
    folder = RootFolder.added(1, path, OURS)
    with pytest.raises(LibraryInUse, match=rf"root {path} is in use by process {os.getpid()}"):
        RootFolder.added(1, path, OURS)
    folder.close()
    RootFolder.added(1, path, OURS).close()


@pytest.mark.parametrize("marker", [b"", b"{}", b"[]", b"\xff", b'{"library": 1'])
def test_a_marker_that_cannot_be_understood_is_told(path: Path, marker: bytes) -> None:
    (path / MARKER).write_bytes(marker)
    for open_it in (lambda: RootFolder.added(1, path, OURS), lambda: mark(path, 1, OURS, {})):
        with pytest.raises(ContentError, match=r"dpd-root\.json cannot be understood; restore it"):
            open_it()


@pytest.mark.parametrize("name", ["blobs", "incoming", "library.db"])
def test_a_folder_that_is_something_else_becomes_no_root(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ContentError, match=r"has blobs/, incoming/ or library\.db of something else"):
        mark(tmp_path, 1, OURS, {})
    assert os.listdir(tmp_path) == [name]


def test_a_root_of_another_library_is_left_alone_and_an_old_one_of_ours_comes_back(path: Path) -> None:
    with pytest.raises(ContentError, match="that of another root"):
        mark(path, 2, THEIRS, {})
    mark(path, 2, OURS, {})
    RootFolder.added(2, path, OURS).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ContentError, match=r"file/root: cannot be a root: .*Not a directory"):
        mark(tmp_path / "file" / "root", 1, OURS, {})


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_the_unit_does_not_let_us_write_to_is_told_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("os.mkdir", refuse)
    with pytest.raises(ContentError, match=r"`systemctl edit dpd`, \[Service\] ReadWritePaths=.*/disk3$"):
        mark(tmp_path / "disk3", 1, OURS, {})


@pytest.mark.parametrize("count", [1, 40], ids=["synced one by one", "synced at once"])
def test_parts_become_blobs_and_replace_equal_ones(path: Path, count: int) -> None:
    folder = RootFolder.added(1, path, OURS)
    hashes = [f"{n:02x}" * 32 for n in range(count)]
    for content in (b"first", b"second"):
        folder.adopt([Adopted(make_part(folder, content), each, 1) for each in hashes])
        assert {folder.blob(each).read_bytes() for each in hashes} == {content}
    assert sorted(each.name for each in folder.blobs()) == hashes
    assert list(folder.parts()) == []
    folder.drop(hashes)
    folder.drop(hashes)
    assert list(folder.blobs()) == []
    folder.close()


def test_parity_comes_and_goes_with_its_blob(path: Path) -> None:
    folder = RootFolder.added(1, path, OURS)
    folder.adopt([Adopted(make_part(folder, b"blob"), A, 1, make_part(folder, b"parity"))])
    assert folder.parity(A).read_bytes() == b"parity"
    assert [each.name for each in folder.blobs()] == [A]
    folder.adopt([Adopted(make_part(folder, b"blob"), A, 1)])
    assert not folder.parity(A).exists()
    folder.close()


def test_the_sweep_leaves_what_the_next_try_goes_on_with(path: Path) -> None:
    folder = RootFolder.added(1, path, OURS)
    make_part(folder, b"crashed")
    (folder.new_part() / "folder").mkdir(parents=True)
    (folder.new_part()).symlink_to(path)
    folder.kept_part(B).write_bytes(b"half")
    folder.sweep_parts()
    assert list(folder.parts()) == [folder.kept_part(B)]
    folder.close()


def test_a_removed_root_leaves_the_folder_with_what_is_not_ours(path: Path) -> None:
    (path / "README").write_text("mine")
    folder = RootFolder.added(1, path, OURS)
    folder.adopt([Adopted(make_part(folder, b"blob"), A, 1)])
    folder.drop([A])
    folder.kept_part(B).write_bytes(b"half")
    folder.remove()
    assert os.listdir(path) == ["README"]


def test_a_root_with_a_blob_is_not_removed(path: Path) -> None:
    folder = RootFolder.added(1, path, OURS)
    folder.adopt([Adopted(make_part(folder, b"blob"), A, 1)])
    with pytest.raises(OSError, match="not empty"):
        folder.remove()
    assert folder.blob(A).read_bytes() == b"blob"
    assert (path / MARKER).exists()
    folder.close()
