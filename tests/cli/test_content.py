# SPDX-License-Identifier: Apache-2.0
"""`dpd content …` against a running daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess


def test_an_image_is_added_listed_shown_verified_and_removed(asked: Dpd, image: Path) -> None:
    added = asked("content", "publish", image, "--package", "LAB00001")
    assert added.code == 0
    assert "LAB00001 version 1" in added.out
    listed = asked("content", "list")
    assert listed.out.splitlines()[0].split() == [
        "PACKAGE",
        "VERSION",
        "KIND",
        "SIZE",
        "FILES",
        "ADDED",
        "NAME",
        "TAGS",
    ]
    assert [line for line in listed.out.splitlines() if line.startswith("LAB00001") and "lab.img" in line]
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
    added = asked("content", "publish", image, "--package", "LAB00002", "--source-version", "4", "--json")
    assert added.out.count("\n") == 1
    assert (added.json["source_version"], added.err) == (4, "")
    assert asked("content", "verify", "LAB00002", "--json").json["package_id"] == "LAB00002"
    assert [c["package_id"] for c in asked("content", "list", "--json").json["content"]] == ["LAB00002"]
    assert asked("content", "remove", "LAB00002", "--json").json["source_version"] == 4


def test_an_empty_library_says_how_to_fill_it(asked: Dpd) -> None:
    assert asked("content", "list").out == (
        "The library is empty; `dpd content publish SOURCE --package ID` publishes a file or a folder.\n"
    )
    assert asked("content", "list", "--json").json == {"content": [], "next": ""}


def test_the_daemon_may_read_the_file_itself(asked: Dpd, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    assert asked("content", "publish", image.name, "--package", "LAB00003", "--in-place").code == 0
    assert asked("content", "remove", "LAB00003").code == 0


def test_the_name_of_before_still_works(asked: Dpd, image: Path) -> None:
    assert asked("content", "add", image, "--package", "LAB00005").code == 0
    assert asked("content", "remove", "LAB00005").code == 0


def test_a_folder_has_kind_tags_and_files(asked: Dpd, tmp_path: Path) -> None:
    folder = tmp_path / "drivers"
    (folder / "net").mkdir(parents=True)
    for name in ("a.inf", "net/b.inf"):
        (folder / name).write_text(name)
    arguments = ("--package", "DRV1", "--kind", "driver-package", "--tag", "vendor=acme", "--tag", "lab")
    shown = asked("content", "publish", folder, *arguments).out
    assert "drivers (tree)" in shown
    assert "lab vendor=acme" in shown
    assert asked("content", "verify", "DRV1").out == "DRV1 version 1: all 2 files are right\n"
    listed = asked("content", "show", "DRV1", "--files").out.splitlines()
    assert [line.split()[-1] for line in listed] == ["PATH", "a.inf", "net/b.inf"]
    assert [each["path"] for each in asked("content", "show", "DRV1", "--files", "--json").json["files"]] == [
        "a.inf",
        "net/b.inf",
    ]
    assert asked("content", "tag", "DRV1", "new", "--remove", "lab").out == "DRV1 version 1: new vendor=acme\n"
    assert asked("content", "remove", "DRV1").code == 0


def test_pages_and_queries(asked: Dpd, image: Path) -> None:
    for n in range(1, 4):
        image.write_bytes(b"%d" % n)
        assert asked("content", "publish", image, "--package", f"PAGE{n}", "--tag", f"n={n}").code == 0
    first = asked("content", "list", "--limit", "2").out.splitlines()
    assert (len(first), first[-1]) == (4, "There is more: --after PAGE2/1")
    assert [line.split()[0] for line in asked("content", "list", "--after", "PAGE2/1").out.splitlines()[1:]] == [
        "PAGE3"
    ]
    assert [c["package_id"] for c in asked("content", "list", "--tag", "n=2", "--json").json["content"]] == ["PAGE2"]
    assert [c["package_id"] for c in asked("content", "list", "page1", "--json").json["content"]] == ["PAGE1"]
    nothing = asked("content", "list", "--kind", "os-image").out
    assert nothing == "Nothing in the library is like that; `dpd content list` shows all of it.\n"
    for n in range(1, 4):
        assert asked("content", "remove", f"PAGE{n}").code == 0


def test_garbage_is_only_told_until_it_is_to_go(asked: Dpd, daemon: DaemonProcess) -> None:
    orphan = daemon.state / "library" / "manifests" / f"{'ab' * 32}.json"
    orphan.write_bytes(b"123")
    told = asked("content", "gc").out.splitlines()
    assert told == [
        str(orphan),
        "0 blobs, 0 parts and 1 other files, 3 B: would be removed by --delete",
    ]
    assert asked("content", "gc", "--delete", "--json").json["deleted"]
    assert not orphan.exists()
    assert asked("content", "gc").out == "0 blobs, 0 parts and 0 other files, 0 B: would be removed by --delete\n"


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("none.wim", "LAB1", "{dir}/none.wim: No such file or directory; expected an image such as install.wim"),
        ("empty.wim", "LAB1", "empty.wim: empty; expected an image such as install.wim"),
        ("lab.img", "LAB 1", "package_id: expected 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_told_in_one_line(
    asked: Dpd, image: Path, daemon: DaemonProcess, name: str, package: str, message: str
) -> None:
    (image.parent / "empty.wim").touch()
    ended = asked("content", "publish", image.parent / name, "--package", package)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"dpd: {message.format(dir=image.parent)}\n"
    assert list((daemon.state / "uploads").glob("*")) == []


def test_a_version_that_exists_with_other_content_is_refused(asked: Dpd, image: Path) -> None:
    assert asked("content", "publish", image, "--package", "LAB00004").code == 0
    image.write_bytes(b"other")
    ended = asked("content", "publish", image, "--package", "LAB00004", "--source-version", "1")
    assert ended.code == 1
    assert ended.err.startswith("dpd: lab.img: LAB00004 version 1 exists with other content")
    assert asked("content", "remove", "LAB00004").code == 0
