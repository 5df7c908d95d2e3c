# SPDX-License-Identifier: Apache-2.0
"""A file is the old one or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpd.target.work.whole_file import beside, replacing


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "BCD"
    place.write_bytes(b"old")
    with replacing(place) as file:
        file.write(b"ne")
        file.flush()
        assert place.read_bytes() == b"old"
        file.write(b"w")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"BCD": b"new"}


def test_the_old_file_stays_where_writing_fails(tmp_path: Path) -> None:
    place = tmp_path / "BCD"
    place.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0) as full, replacing(place):
        full.write(b"x")
    assert place.read_bytes() == b"old"


def test_what_a_kill_left_beside_it_is_in_nobodys_way(tmp_path: Path) -> None:
    place = tmp_path / "BCD"
    beside(place).write_bytes(b"longer than what comes")
    with replacing(place) as file:
        file.write(b"new")
    assert place.read_bytes() == b"new"


def test_secrets_are_nobody_elses_from_the_first_byte(tmp_path: Path) -> None:
    place = tmp_path / "run.json"
    with replacing(place, 0o600) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o600
