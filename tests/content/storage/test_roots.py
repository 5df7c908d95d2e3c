# SPDX-License-Identifier: Apache-2.0
"""Roots of a library: filled in order beside their reserve, and missing ones are told and come back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tests.content.conftest import OpenRoots, put_blob

from dpd.content.records import RootState
from dpd.content.storage.blob_table import BlobTable
from dpd.content.storage.disk import free_bytes
from dpd.content.storage.root_folder import MARKER, RootFolder
from dpd.content.storage.roots import Guest, RootCondition, Roots
from dpd.errors import ContentError, ContentNotFound, LibraryFull, LibraryInUse

A = hashlib.sha256(b"blob").hexdigest()


def test_a_new_library_has_its_own_root(open_roots: OpenRoots, own: Path) -> None:
    roots = open_roots()
    (status,) = roots.status()
    assert (status.id, status.path, status.state) == (0, str(own), RootCondition.ACTIVE)
    assert (status.blobs, status.blob_bytes, status.reserve_bytes, status.problem) == (0, 0, 0, "")
    assert 0 < status.free_bytes <= status.total_bytes
    assert roots.place(1) == 0
    assert [folder.path for folder in roots.folders()] == [own]


def test_an_added_root_is_there_at_once_and_after_a_restart(open_roots: OpenRoots, tmp_path: Path) -> None:
    added = open_roots().add(tmp_path / "disks" / "2", 1 << 20)
    assert (added.id, added.state, added.reserve_bytes) == (1, RootCondition.ACTIVE, 1 << 20)
    roots = open_roots()
    assert [status.path for status in roots.status()] == [str(tmp_path / "library"), str(tmp_path / "disks" / "2")]
    assert [folder.number for folder in roots.folders()] == [0, 1]


def test_the_first_root_with_room_beside_its_reserve_is_taken(open_roots: OpenRoots, tmp_path: Path) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    assert roots.place(1) == 0
    roots.change(0, reserve_bytes=1 << 59)
    assert roots.place(1) == 1
    roots.change(1, state=RootState.DRAINING)
    with pytest.raises(LibraryFull) as refused:
        roots.place(12345)
    assert str(refused.value).startswith(f"needs 12345 bytes in a root ({tmp_path / 'library'}: ")
    assert f"are free, {1 << 59} in reserve); make room" in str(refused.value)
    roots.change(1, state=RootState.ACTIVE)
    assert roots.place(1) == 1


def test_what_is_free_is_what_the_disk_has(open_roots: OpenRoots, tmp_path: Path) -> None:
    with pytest.raises(LibraryFull, match="add a root with `dpd root add`"):
        open_roots().place(free_bytes(tmp_path) * 2)


@pytest.mark.parametrize("inside", ["library/more", ".", "library"])
def test_a_root_in_another_one_is_refused(open_roots: OpenRoots, tmp_path: Path, inside: str) -> None:
    roots = open_roots()
    with pytest.raises(ContentError, match=r"name a folder beside it|is root 0 of this library already"):
        roots.add(tmp_path / inside, 0)
    assert len(roots.status()) == 1


def test_the_same_folder_by_another_name_is_refused(open_roots: OpenRoots, tmp_path: Path) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    (tmp_path / "link").symlink_to(tmp_path / "2")
    with pytest.raises(ContentError, match=r"/2: is root 1 of this library already; `dpd root list`"):
        roots.add(tmp_path / "link", 0)


@pytest.mark.parametrize(
    ("path", "reserve_bytes", "reason"),
    [("2", 0, "not an absolute path"), ("/x/y", -1, "expected 0 to"), ("/proc/x", 0, "cannot be a root: ")],
)
def test_what_cannot_be_added_is_told_and_leaves_no_row(
    open_roots: OpenRoots, path: str, reserve_bytes: int, reason: str
) -> None:
    roots = open_roots()
    with pytest.raises(ContentError, match=reason):
        roots.add(Path(path), reserve_bytes)
    assert len(roots.status()) == 1


def test_a_missing_root_is_told_the_others_go_on_and_it_comes_back(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    put_blob(roots, table, 1)
    roots.close()
    (tmp_path / "2").rename(tmp_path / "elsewhere")
    (tmp_path / "2").mkdir()  # the mount point
    roots = open_roots()
    own, missing = roots.status()
    assert (own.state, missing.state, missing.blobs) == (RootCondition.ACTIVE, RootCondition.MISSING, 1)
    assert f"without {MARKER}; mount the disk that holds root 1" in missing.problem
    with pytest.raises(ContentError, match="mount the disk that holds root 1"):
        roots.folder(1)
    with pytest.raises(
        ContentError, match="root 1: is not there, and 1 blobs with it; mount its disk again, or redist"
    ):
        roots.remove(1)
    roots.change(0, reserve_bytes=1 << 59)
    with pytest.raises(LibraryFull, match="/2: not there"):
        roots.place(1)
    assert os.listdir(tmp_path / "2") == []
    (tmp_path / "2").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "2")
    assert roots.folder(1).blob(A).read_bytes() == b"blob"
    assert roots.place(1) == 1


def test_a_root_that_another_process_has_refuses_the_library(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    with pytest.raises(LibraryInUse, match=rf"root {tmp_path}/2 is in use by process {os.getpid()}"):
        Roots(RootFolder.own(tmp_path / "library"), table)
    roots.close()


def test_only_an_empty_root_that_was_drained_is_removed(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    put_blob(roots, table, 1)
    for state in (RootState.ACTIVE, RootState.DRAINING):
        roots.change(1, state=state)
        with pytest.raises(ContentError, match=r"holds 1 blobs; run `dpd root drain 1` first"):
            roots.remove(1)
    table.drop([A])
    roots.folder(1).drop([A])
    assert roots.status()[1].state is RootCondition.EMPTY
    assert roots.remove(1).path == str(tmp_path / "2")
    assert os.listdir(tmp_path / "2") == []
    assert len(roots.status()) == 1
    for use in (lambda: roots.folder(1), lambda: roots.remove(1), lambda: roots.change(1, reserve_bytes=0)):
        with pytest.raises(ContentNotFound, match="there is no root 1; `dpd root list`"):
            use()
    assert roots.add(tmp_path / "2", 0).id == 2  # a number is never used twice


def test_a_blob_is_opened_where_its_row_says_also_while_it_moves(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    put_blob(roots, table, 0)
    real, moves = os.open, [1]

    def move_first(path: Path, *args: int) -> int:
        if moves and path == roots.folder(0).blob(A):
            put_blob(roots, table, moves.pop())
            roots.folder(0).drop([A])
        return real(path, *args)

    monkeypatch.setattr("os.open", move_first)
    descriptor, row = roots.open_blob(A)
    assert (os.read(descriptor, 9), row.root) == (b"blob", 1)
    os.close(descriptor)
    roots.folder(1).drop([A])
    with pytest.raises(FileNotFoundError):
        roots.open_blob(A)
    with pytest.raises(ContentNotFound, match=f"blob {'b' * 64} is not in the library"):
        roots.open_blob("b" * 64)


def test_a_root_is_found_by_its_device(open_roots: OpenRoots, tmp_path: Path) -> None:
    roots, device = open_roots(), tmp_path.stat().st_dev
    roots.add(tmp_path / "2", 0)
    assert roots.of_device(device, 1) == 0
    roots.change(0, state=RootState.DRAINING)
    assert roots.of_device(device, 1) == 1
    assert roots.of_device(device, 1 << 59) is None
    roots.change(1, reserve_bytes=1 << 59)
    assert roots.of_device(device, 1) is None
    assert roots.of_device(os.stat("/proc").st_dev, 0) is None


def test_the_librarys_own_root_stays(open_roots: OpenRoots) -> None:
    roots = open_roots()
    roots.change(0, state=RootState.DRAINING)
    assert roots.status()[0].state is RootCondition.EMPTY
    with pytest.raises(ContentError, match=r"root 0 is the library's own folder, .*, and stays"):
        roots.remove(0)


def test_a_removed_root_that_holds_something_else_is_told(open_roots: OpenRoots, tmp_path: Path) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    roots.change(1, state=RootState.DRAINING)
    (tmp_path / "2" / "blobs" / "mine").touch()
    with pytest.raises(ContentError, match=r"root 1: is no root any more, but .*not empty; look into that folder"):
        roots.remove(1)
    assert len(roots.status()) == 1


def test_the_folder_of_a_root_that_is_still_one_is_not_made_another(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    sha256 = put_blob(roots, table, 1)
    roots.close()
    (tmp_path / "2").rename(tmp_path / "moved")
    roots = open_roots()
    with pytest.raises(ContentError, match=f"holds the blobs of root 1, which is expected at {tmp_path / '2'}"):
        roots.add(tmp_path / "moved", 0)
    assert len(roots.status()) == 2
    (tmp_path / "moved").rename(tmp_path / "2")
    os.close(roots.open_blob(sha256)[0])


def test_a_root_that_somebody_has_chosen_is_not_removed_before_he_is_done(
    open_roots: OpenRoots, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    roots.change(0, reserve_bytes=1 << 59)
    with Guest(roots) as guest, Guest(roots) as late:
        assert guest.place(1) == 1
        roots.change(1, state=RootState.DRAINING)
        roots.change(0, reserve_bytes=0)
        assert late.place(1) == 0
        assert not late.enter(1)
        with pytest.raises(
            ContentError, match=r"root 1, .*/2: something that began before .* comes into it; try again"
        ):
            roots.remove(1)
        guest.close()
        guest.close()
        assert roots.remove(1).id == 1


def test_a_root_that_is_drained_while_somebody_chooses_is_not_chosen(
    open_roots: OpenRoots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    real, drained = Roots.place, list[int]()

    def place(roots: Roots, size_bytes: int) -> int:
        number = real(roots, size_bytes)
        if not drained:
            drained.append(number)
            roots.change(number, state=RootState.DRAINING)
        return number

    monkeypatch.setattr(Roots, "place", place)
    with Guest(roots) as guest:
        assert guest.place(1) == 1
    assert drained == [0]
