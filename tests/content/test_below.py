# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from dpd.content.below import open_below


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
