# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from dpd.content.below import FilesBelow, open_below


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "file").write_bytes(b"content")
    return tmp_path / "folder"


def read(folder: Path, path: str) -> bytes:
    with open(open_below(folder, path), "rb") as file:
        return file.read()


def test_a_file_is_opened_by_its_path_also_through_a_link_to_the_folder(folder: Path) -> None:
    folder.with_name("link").symlink_to(folder)
    assert read(folder, "sub/file") == read(folder.with_name("link"), "sub/file") == b"content"


@pytest.mark.parametrize("path", ["link/file", "link", "sub/link"])
def test_a_link_below_it_is_not_followed_and_nothing_stays_open(folder: Path, path: str) -> None:
    target = folder / "sub" if path.startswith("link") else folder / "sub" / "file"
    (folder / path.removesuffix("/file")).symlink_to(target)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_below(folder, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nobody_waits_for_the_writer_of_a_fifo(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.close(open_below(folder, "fifo"))


def test_files_of_one_folder_after_the_other_come_out_of_the_folder_that_was_found(folder: Path) -> None:
    (folder / "sub" / "other").write_bytes(b"other")
    (folder / "top").write_bytes(b"top")
    (folder.parent / "elsewhere").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with FilesBelow(folder) as files:

        def read_next(path: str) -> bytes:
            with open(files.open(path), "rb") as file:
                return file.read()

        assert [read_next(path) for path in ("sub/file", "top", "sub/file")] == [b"content", b"top", b"content"]
        (folder / "sub").rename(folder / "moved")
        (folder / "sub").symlink_to(folder.parent / "elsewhere")
        assert read_next("sub/other") == b"other"
        files.close()
        with pytest.raises(OSError, match="Not a directory"):
            files.open("sub/other")
        assert read_next("top") == b"top"
    assert len(os.listdir("/proc/self/fd")) == before
