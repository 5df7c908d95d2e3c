# SPDX-License-Identifier: Apache-2.0
"""Versions of boot images on the disk: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpd.boot import image_folder
from dpd.boot.image_folder import bring, link, new_folder, publish, refuse_if_full, remove, sweep
from dpd.errors import ContentError, LibraryFull


def test_a_published_folder_has_its_name_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    with new_folder(tmp_path / "images") as folder:
        (folder / "files" / "a").write_bytes(b"1")
        publish(folder, tmp_path / "images" / "LAB1" / "1")
    assert (tmp_path / "images" / "LAB1" / "1" / "files" / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path / "images") == ["LAB1"]


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="images"):
        _fail_half_way(tmp_path / "images")
    assert os.listdir(tmp_path / "images") == []


def _fail_half_way(root: Path) -> None:
    with new_folder(root) as folder:
        (folder / "files" / "a").write_bytes(b"1")
        raise OSError(5, "Input/output error")


def test_a_start_sweeps_what_a_crash_left(tmp_path: Path) -> None:
    (tmp_path / ".new-abc" / "files").mkdir(parents=True)
    (tmp_path / ".old-abc" / "1").mkdir(parents=True)
    (tmp_path / "LAB1" / "1").mkdir(parents=True)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["LAB1"]


def test_who_reads_a_removed_version_reads_on(tmp_path: Path) -> None:
    place = tmp_path / "LAB1" / "1"
    place.mkdir(parents=True)
    (place / "a").write_bytes(b"1")
    with (place / "a").open("rb") as file:
        remove(tmp_path, place)
        assert os.listdir(tmp_path) == []
        assert file.read() == b"1"


def test_another_version_stays_when_one_is_removed(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / "LAB1" / version).mkdir(parents=True)
    remove(tmp_path, tmp_path / "LAB1" / "1")
    assert os.listdir(tmp_path / "LAB1") == ["2"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(LibraryFull, match="dpd boot-image remove"):
        refuse_if_full(tmp_path, 1 << 60)
    refuse_if_full(tmp_path, 1)


def test_progress_counts_every_file_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "CHUNK_BYTES", 3)
    (tmp_path / "a").write_bytes(b"1234567")
    seen: list[tuple[int, int]] = []
    assert bring(tmp_path / "a", tmp_path / "b", lambda *now: seen.append(now), 10, 17) == 17
    assert seen == [(13, 17), (16, 17), (17, 17)]
    assert (tmp_path / "b").read_bytes() == b"1234567"


def test_a_link_is_the_same_file_where_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").stat().st_ino == (tmp_path / "b").stat().st_ino
    assert not link(tmp_path / "none", tmp_path / "c")
