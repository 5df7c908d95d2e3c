# SPDX-License-Identifier: Apache-2.0
"""The archive as busybox and Linux read it."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dpd.environment.cpio import FILE, FOLDER, LINK, Member, write_archive

MTIME = 1_700_000_000


def members(source: Path) -> list[Member]:
    return [
        Member("b/file", FILE | 0o640, b"hello"),
        Member("b", FOLDER | 0o755),
        Member("b-side", FILE | 0o755, source=source),
        Member("link", LINK | 0o777, b"b/file"),
    ]


def archive(source: Path, *, backwards: bool = False) -> bytes:
    out = io.BytesIO()
    written = write_archive(out, members(source)[:: -1 if backwards else 1], MTIME)
    assert written == len(out.getvalue())
    return out.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1001)
    return path


def test_the_order_in_which_members_come_and_the_files_times_change_nothing(source: Path) -> None:
    first = archive(source)
    os.utime(source, (1, 1))
    assert archive(source, backwards=True) == first


def test_a_folder_comes_before_what_is_in_it(source: Path) -> None:
    content = archive(source)
    names = [content.index(b"0" + name + b"\0") for name in (b"b", b"b/file", b"b-side", b"link", b"TRAILER!!!")]
    assert names == sorted(names)


def test_busybox_unpacks_it_with_modes_times_and_links(source: Path, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("missing: busybox")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([busybox, "cpio", "-idm"], input=archive(source), cwd=out, check=True, capture_output=True)
    assert (out / "b/file").read_bytes() == b"hello"
    assert (out / "b-side").read_bytes() == b"x" * 1001
    assert os.readlink(out / "link") == "b/file"
    assert stat.S_IMODE((out / "b/file").stat().st_mode) == 0o640
    assert int((out / "b-side").stat().st_mtime) == MTIME
