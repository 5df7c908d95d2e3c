# SPDX-License-Identifier: Apache-2.0
"""`dpd content …` against a running daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess


def test_an_image_is_added_listed_shown_verified_and_removed(asked: Dpd, image: Path) -> None:
    added = asked("content", "add", image, "--package", "LAB00001")
    assert added.code == 0
    assert "LAB00001 version 1" in added.out
    listed = asked("content", "list")
    assert listed.out.splitlines()[0].split() == ["PACKAGE", "VERSION", "KIND", "SIZE", "ADDED", "FILE"]
    assert [
        line for line in listed.out.splitlines() if line.startswith("LAB00001") and line.rstrip().endswith("lab.img")
    ]
    shown = asked("content", "show", "LAB00001", "--json").json
    assert (shown["size_bytes"], shown["source_version"]) == (image.stat().st_size, 1)
    assert asked("content", "verify", "LAB00001").out == "LAB00001 version 1: all 1 slabs are right\n"
    assert asked("content", "remove", "LAB00001").out == "LAB00001 version 1: removed\n"
    gone = asked("content", "show", "LAB00001")
    assert (gone.code, gone.err) == (
        1,
        "dpd: package 'LAB00001' is not in the library; `dpd content list` shows what is\n",
    )


def test_json_is_one_document_on_one_line_for_programs(asked: Dpd, image: Path) -> None:
    added = asked("content", "add", image, "--package", "LAB00002", "--source-version", "4", "--json")
    assert added.out.count("\n") == 1
    assert (added.json["source_version"], added.err) == (4, "")
    assert asked("content", "verify", "LAB00002", "--json").json["package_id"] == "LAB00002"
    assert [c["package_id"] for c in asked("content", "list", "--json").json["content"]] == ["LAB00002"]
    assert asked("content", "remove", "LAB00002", "--json").json["source_version"] == 4


def test_an_empty_library_says_how_to_fill_it(asked: Dpd) -> None:
    assert asked("content", "list").out == (
        "The library is empty; `dpd content add IMAGE --package ID` publishes an image.\n"
    )
    assert asked("content", "list", "--json").json == {"content": []}


def test_the_daemon_may_read_the_file_itself(asked: Dpd, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    assert asked("content", "add", image.name, "--package", "LAB00003", "--in-place").code == 0
    assert asked("content", "remove", "LAB00003").code == 0


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("none.wim", "LAB1", "{dir}/none.wim: No such file or directory; expected an image such as install.wim"),
        ("", "LAB1", "{dir}: Is a directory; expected an image such as install.wim"),
        ("empty.wim", "LAB1", "empty.wim: empty; expected an image such as install.wim"),
        ("lab.img", "LAB 1", "package_id: expected 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_told_in_one_line(
    asked: Dpd, image: Path, daemon: DaemonProcess, name: str, package: str, message: str
) -> None:
    (image.parent / "empty.wim").touch()
    ended = asked("content", "add", image.parent / name, "--package", package)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"dpd: {message.format(dir=image.parent)}\n"
    assert list((daemon.state / "uploads").glob("*")) == []


def test_a_version_that_exists_with_other_content_is_refused(asked: Dpd, image: Path) -> None:
    assert asked("content", "add", image, "--package", "LAB00004").code == 0
    image.write_bytes(b"other")
    ended = asked("content", "add", image, "--package", "LAB00004", "--source-version", "1")
    assert ended.code == 1
    assert ended.err.startswith("dpd: lab.img: LAB00004 version 1 exists with other content")
    assert asked("content", "remove", "LAB00004").code == 0
