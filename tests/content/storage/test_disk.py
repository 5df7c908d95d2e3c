# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from dpd.content.storage.disk import (
    begin_writing,
    disk_trouble_told,
    free_bytes,
    in_words,
    sync_directory,
    sync_file_system,
    take_lock,
    write_whole,
)
from dpd.errors import ContentError, LibraryFull, LibraryInUse


def test_a_small_file_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", b"content", mode=0o600)  # cannot replace a directory
    assert os.listdir(tmp_path) == ["folder"]
    write_whole(tmp_path / "file", b"content", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_cannot_be_synced(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    sync_file_system(tmp_path)
    for sync in (sync_directory, sync_file_system):
        with pytest.raises(FileNotFoundError):
            sync(tmp_path / "missing")


def test_an_error_of_the_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.open", lambda *_: 1 << 20)  # a descriptor that is none
    monkeypatch.setattr("os.close", lambda _: None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(tmp_path)


def test_free_bytes_are_those_of_an_ordinary_user(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - status.f_bavail * status.f_frsize) < 1 << 30


def test_a_folder_has_one_owner_who_is_named(tmp_path: Path) -> None:
    lock = take_lock(tmp_path, "root x")
    with pytest.raises(LibraryInUse, match=rf"root x is in use by process {os.getpid()} \({tmp_path}/lock\)"):
        take_lock(tmp_path, "root x")
    os.close(lock)
    os.close(take_lock(tmp_path, "root x"))


def test_trouble_is_told_with_the_file_where_there_is_one() -> None:
    assert in_words(OSError(28, "No space left on device", "/x")) == "/x: No space left on device"
    assert in_words(OSError(28, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (28, LibraryFull, r"drain: the disk became full; make room there"),
        (122, LibraryFull, r"drain: the disk became full; make room there"),
        (5, ContentError, r"drain: /x: Input/output error; check that disk"),
    ],
)
def test_trouble_of_a_verb_is_an_error_of_the_library(number: int, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told), disk_trouble_told("drain"):
        raise OSError(number, os.strerror(number), "/x")


def test_the_disk_may_begin_early_and_what_cannot_take_the_hint_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        begin_writing(file.fileno(), 0, 100_000)
        begin_writing(file.fileno(), 1 << 40, 4096)
    assert (tmp_path / "file").read_bytes() == bytes(100_000)
    begin_writing(-1, 0, 4096)
    monkeypatch.setattr("dpd.content.storage.disk._libc", object())
    begin_writing(-1, 0, 4096)
