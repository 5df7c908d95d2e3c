# SPDX-License-Identifier: Apache-2.0
import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from dpd.content.folder import MAX_DEPTH, scan
from dpd.errors import ContentError


def test_everything_below_is_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "b" / "empty").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    for name in ("z", "b/y", "b/ä", "a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    folder = scan(tmp_path)
    assert [each.path for each in folder.files] == ["a.txt", "b.txt", "b/y", "b/ä", "z"]
    assert Path(folder.files[2].source) == tmp_path / "b" / "y"
    assert folder.directories == ("b/empty", "none")
    assert folder.size_bytes == sum(len(name.encode()) for name in ("z", "b/y", "b/ä", "a.txt", "b.txt"))


def make_socket(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # its name is too long for an address
    try:
        with socket.socket(socket.AF_UNIX) as unbound:
            unbound.bind(path.name)
    finally:
        os.chdir(place)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("other"), "odd: a symbolic link, which content cannot have"),
        (os.mkfifo, "odd: neither a file nor a folder"),
        (make_socket, "odd: neither a file nor a folder"),
        (lambda path: path.with_name("a\nb").touch(), "has a control character in it; rename it"),
        (lambda path: path.with_name(unicodedata.normalize("NFD", "ä")).touch(), "is not in Unicode's normal form C"),
        (lambda path: path.with_name(os.fsdecode(b"\xff")).touch(), r"\\xff': its path is no UTF-8; rename it"),
    ],
    ids=["link", "fifo", "socket", "control character", "decomposed", "no utf-8"],
)
def test_what_cannot_be_content_is_named(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "good").touch()
    make(tmp_path / "sub" / "odd")
    with pytest.raises(ContentError) as refused:
        scan(tmp_path)
    assert reason in str(refused.value)
    assert str(tmp_path / "sub") in str(refused.value)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ContentError, match="no files in this folder"):
        scan(tmp_path)


def test_a_folder_that_has_no_end_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "/".join("d" * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    (deep / "file").touch()
    with pytest.raises(ContentError, match=f"{MAX_DEPTH + 1} folders deep, expected at most {MAX_DEPTH}"):
        scan(tmp_path)
