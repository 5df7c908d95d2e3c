# SPDX-License-Identifier: Apache-2.0
"""WinPE with our target inside, in WIMs that wimlib makes."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.boot.wims import adk_tree, make_wim, with_wimlib

from dpd.content.wim import tool
from dpd.environment.winpe_image import WinpeWish, build, start_script
from dpd.errors import BuildError

COMMAND = r"X:\dpd\python\python.exe X:\dpd\dpd-target.pyz http://dp:8080 LAB00001 -o C:\install.wim"
STARTNET = "/Windows/System32/startnet.cmd"


@pytest.fixture
def wish(tmp_path: Path) -> WinpeWish:
    """A boot.wim as the ADK makes it, and Python's distribution with what it is known by."""
    tree = adk_tree() | {STARTNET.lstrip("/"): b"wpeinit\r\n"}
    wim = make_wim(tmp_path / "given.wim", tree)
    (tmp_path / "target.pyz").write_bytes(b"zipapp")
    python = tmp_path / "python-3.12-embed-amd64.zip"
    with zipfile.ZipFile(python, "w") as archive:
        archive.writestr("python.exe", b"MZ")
        archive.writestr("python312.zip", b"library")
    return WinpeWish(wim, 1, tmp_path / "target.pyz", python, b"PEM", "ab" * 32, COMMAND)


def taken_out(wim: Path, into: Path, *paths: str) -> list[bytes]:
    into.mkdir()
    tool.extract(wim, 1, paths, into)
    return [(into / path.lstrip("/")).read_bytes() for path in paths]


@with_wimlib
def test_the_target_its_python_and_a_start_command_are_in_the_copy(wish: WinpeWish, tmp_path: Path) -> None:
    before = wish.wim.read_bytes()
    (tmp_path / "out").mkdir()
    made = build(wish, tmp_path / "out")
    assert wish.wim.read_bytes() == before
    target, python, key, start = taken_out(
        made, tmp_path / "taken", "/dpd/dpd-target.pyz", "/dpd/python/python.exe", "/dpd/signing-key", STARTNET
    )
    assert (target, python, key) == (b"zipapp", b"MZ", b"ab" * 32 + b"\n")
    assert b"wpeinit\r\n" in start
    assert f"\ncall {COMMAND}\r\n".encode() in start  # without call, a batch file would not come back
    assert len(tool.list_paths(made, 1)) > len(tool.list_paths(wish.wim, 1))


@with_wimlib
def test_what_was_built_before_is_built_anew(wish: WinpeWish, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = build(wish, tmp_path / "first")
    wish.target.write_bytes(b"newer")
    second = build(replace(wish, wim=first, start="X:\\own.cmd"), tmp_path / "second")
    target, start = taken_out(second, tmp_path / "taken", "/dpd/dpd-target.pyz", STARTNET)
    assert target == b"newer"
    assert b"X:\\own.cmd" in start
    assert b"python.exe" not in start


def test_lines_of_the_start_script_end_as_windows_expects() -> None:
    lines = start_script(COMMAND).split(b"\n")
    assert all(line.endswith(b"\r") for line in lines[:-1])
    assert b"@START@" not in start_script(COMMAND)


def test_without_a_command_the_next_step_is_told(wish: WinpeWish, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="--start"):
        build(replace(wish, start=""), tmp_path)


@with_wimlib
def test_a_winpe_that_has_its_own_python_needs_none(wish: WinpeWish, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    made = build(replace(wish, python=None), tmp_path / "out")
    assert "/dpd/dpd-target.pyz" in tool.list_paths(made, 1)
    assert "/dpd/python" not in tool.list_paths(made, 1)


@pytest.mark.parametrize(
    ("member", "told"), [("setup.exe", "no python.exe"), ("../python.exe", "no python.exe|leads out")]
)
def test_an_archive_that_is_no_python_is_refused(wish: WinpeWish, tmp_path: Path, member: str, told: str) -> None:
    wrong = tmp_path / "wrong.zip"
    with zipfile.ZipFile(wrong, "w") as archive:
        archive.writestr(member, b"")
    (tmp_path / "out").mkdir()
    with pytest.raises(BuildError, match=told):
        build(replace(wish, python=wrong), tmp_path / "out")
    wrong.write_bytes(b"no archive")
    with pytest.raises(BuildError, match="not a zip file"):
        build(replace(wish, python=wrong), tmp_path / "out")
