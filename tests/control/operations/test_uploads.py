# SPDX-License-Identifier: Apache-2.0
"""Uploads: what arrives is on the disk, what fails leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dpd.control.operations.uploads import Upload, Uploads
from dpd.errors import ContentError, LibraryFull


async def chunks(*pieces: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, Exception):
            raise piece
        yield piece


async def test_chunks_become_a_file_that_goes_with_its_folder(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    with uploads.folder() as folder:
        path = await uploads.save(Upload("a.wim", 6, chunks(b"abc", b"def")), folder)
        assert (path.name, path.read_bytes()) == ("a.wim", b"abcdef")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


async def test_more_than_the_disk_has_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    with uploads.folder() as folder:
        with pytest.raises(LibraryFull) as caught:
            await uploads.save(Upload("a.wim", 1 << 60, chunks(AssertionError("read"))), folder)
        assert list(folder.iterdir()) == []
    assert str(caught.value).startswith(f"a.wim: needs {1 << 60} bytes in {tmp_path}/uploads, ")
    assert str(caught.value).endswith(" are free; make room, for example with `dpd content remove`")


async def test_a_broken_connection_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    with pytest.raises(ContentError) as caught, uploads.folder() as folder:
        await uploads.save(Upload("a.wim", 6, chunks(b"abc", ConnectionResetError("gone"))), folder)
    assert str(caught.value) == "a.wim: upload broke off after 3 bytes: gone; send it again"
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_name_too_long_for_the_disk_is_told(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    with pytest.raises(ContentError, match="File name too long"), uploads.folder() as folder:
        await uploads.save(Upload("é" * 200, 1, chunks(b"a")), folder)


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "uploads" / "x" / "half.wim"
    left.parent.mkdir(parents=True)
    left.touch()
    Uploads(tmp_path / "uploads")
    assert not left.exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    uploads = Uploads(tmp_path / "state" / "uploads")
    with pytest.raises(ContentError, match=f"{tmp_path}/state/uploads: no upload possible: {os.strerror(20)}"):
        uploads.folder().__enter__()
