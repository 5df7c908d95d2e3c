# SPDX-License-Identifier: Apache-2.0
"""`dpd content images|export-image|verify-images` against a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.content.wim_builder import make_wim
from tests.content.wims import needs_wimlib, two_images


@pytest.fixture
def published(asked: Dpd, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "lab.wim").write_bytes(make_wim())
    assert asked("content", "publish", tmp_path / "lab.wim", "--package", "WIM1").code == 0
    yield "WIM1"
    asked("content", "remove", "WIM1")


def test_images_are_a_table(asked: Dpd, published: str) -> None:
    shown = asked("content", "images", published)
    assert shown.code == 0, shown.err
    assert "lzx, chunks of 32.0 KiB, integrity table" in shown.out
    table = [line.split() for line in shown.out.splitlines() if line]
    assert table[-2][:3] == ["INDEX", "IMAGE", "EDITION"]
    assert table[-1] == ["1", "one", "-", "-", "-", "-", "0", "1.1", "KiB", "-"]


def test_images_are_json(asked: Dpd, published: str) -> None:
    shown = asked("content", "images", published, "--json").json
    assert (shown["file"], shown["images"][0]["name"], shown["blobs"]) == ("lab.wim", "one", 2)


def test_the_wims_own_sums_are_compared(asked: Dpd, published: str) -> None:
    assert asked("content", "verify-images", published).out == "WIM1 version 1, lab.wim: all 2 resources are right\n"
    assert asked("content", "verify-images", published, "--json").json["checked"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("images", "NONE"), "dpd: package 'NONE' is not in the library; `dpd content list` shows what is\n"),
        (
            ("images", "WIM1", "--file", "x.wim"),
            "dpd: WIM1 version 1: has no file 'x.wim'; name one of its files, such as ",
        ),
        (("export-image", "WIM1", "2", "NEW"), "dpd: WIM1 version 1: has 1 image, and none with index 2; "),
    ],
)
def test_what_is_wrong_is_one_line(asked: Dpd, published: str, arguments: tuple[str, ...], message: str) -> None:
    ended = asked("content", *arguments)
    assert (ended.code, ended.out, ended.err[: len(message)]) == (1, "", message)
    assert ended.err.count("\n") == 1


class TestExport:
    pytestmark = needs_wimlib

    def test_an_image_is_exported(self, asked: Dpd, tmp_path: Path) -> None:
        assert asked("content", "publish", two_images(tmp_path), "--package", "BOTH").code == 0
        ended = asked("content", "export-image", "BOTH", "2", "CORE", "--new-version", "5")
        assert ended.code == 0, ended.err
        assert "CORE version 5" in ended.out
        assert "Windows 11 Core" in ended.out
        assert "architecture=x64, edition=Core, language=de-DE, version=10.0.26100.1" in ended.out
        again = asked("content", "export-image", "BOTH", "1", "CORE", "--json").json
        assert (again["source_version"], again["images"][0]["edition"]) == (6, "Professional")
        for package in ("BOTH", "CORE", "CORE"):
            assert asked("content", "remove", package).code == 0
