# SPDX-License-Identifier: Apache-2.0
"""Documents of the command line: read, written whole, and their faults as editors know them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from dpd.cli import document


def test_a_file_is_read_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.toml").write_bytes(b"a = 1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b = 2")))
    assert document.read(str(tmp_path / "a.toml")) == b"a = 1"
    assert document.read("-") == b"b = 2"
    with pytest.raises(FileNotFoundError):
        document.read(str(tmp_path / "none.toml"))


def test_what_cannot_be_written_leaves_what_was_there_and_no_part(tmp_path: Path) -> None:
    place = tmp_path / "a.toml"
    document.write(place, "old")
    document.write(place, "new")
    assert place.read_text() == "new"
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        document.write(folder, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "folder"]


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        (7, "step 2", "f.toml:7: step 2: wrong"),
        (7, "", "f.toml:7: wrong"),
        (0, "step 2", "f.toml: step 2: wrong"),
        (0, "", "f.toml: wrong"),
    ],
)
def test_a_fault_is_told_with_its_line(line: int, place: str, said: str) -> None:
    assert document.problem_line("f.toml", line, place, "wrong") == said


def test_nothing_moves_the_cursor() -> None:
    assert document.problem_line("f.toml", 1, "a\x1b[2J", "b\nc") == "f.toml:1: a?[2J: b?c"
