# SPDX-License-Identifier: Apache-2.0
"""wimlib's program as we run it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.boot.wims import make_wim, with_wimlib

from dpd.content.wim import reader as wim
from dpd.content.wim import tool as wim_tool
from dpd.content.wim.tool import extract, list_paths
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

TREE = {"Windows/Boot/ä (1)/x*y.txt": b"one", "Windows/Boot/b.txt": b"two", "@list": b"three"}


@with_wimlib
def test_what_is_listed_can_be_taken_out_whatever_its_name(tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "a.wim", TREE)
    paths = list_paths(wim, 1)
    assert {f"/{name}" for name in TREE} <= set(paths)
    into = tmp_path / "into"
    into.mkdir()
    extract(wim, 1, ["/Windows/Boot/ä (1)/x*y.txt", "/@list"], into)
    found = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert found == {"Windows/Boot/ä (1)/x*y.txt": b"one", "@list": b"three"}


@with_wimlib
def test_a_refusal_is_told_in_wimlibs_words(tmp_path: Path) -> None:
    (tmp_path / "no.wim").write_bytes(bytes(1000))
    with pytest.raises(ContentError, match=r"wimlib-imagex dir: .*no\.wim.*magic"):
        list_paths(tmp_path / "no.wim", 1)
    wim = make_wim(tmp_path / "a.wim", TREE)
    with pytest.raises(ContentError, match="wimlib-imagex extract: "):
        extract(wim, 1, ["/none"], tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], check=False).returncode:
        pytest.skip("missing: root, to mount a small tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_without_wimlib_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContentError, match="apt install wimtools"):
        list_paths(tmp_path / "a.wim", 1)


def unseen(done: int, total: int) -> None:
    pass


@contextmanager
def opened(*paths: Path) -> Iterator[list[int]]:
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def two_images(tmp_path: Path, *options: str) -> Path:
    """Random files of 4 MB, which no compression makes smaller, in two images."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(8):
            (tmp_path / name / str(number)).write_bytes(random.Random(f"{name}{number}").randbytes(500_000))
    wim_path = tmp_path / "both.wim"
    for verb, name in (("capture", "one"), ("append", "two")):
        command = [
            wim_tool.PROGRAM,
            verb,
            str(tmp_path / name),
            str(wim_path),
            name,
            *(options if verb == "capture" else ()),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return wim_path


@with_wimlib
def test_one_image_is_exported_and_the_source_stays_as_it_is(tmp_path: Path) -> None:
    source = two_images(tmp_path)
    before = source.read_bytes()
    seen: list[tuple[int, int]] = []
    with opened(source) as parts:
        wim_tool.export(parts, 2, tmp_path / "out", lambda *now: seen.append(now), bootable=True, with_integrity=True)
    found = wim.check(tmp_path / "out")
    assert ([image.name for image in found.images], found.boot_index) == (["two"], 1)
    assert found.integrity is not None
    assert source.read_bytes() == before
    assert seen[-1][0] == seen[-1][1] == pytest.approx(4_000_000, rel=0.01)
    assert seen == sorted(seen, key=lambda each: each[0])


@with_wimlib
def test_parts_of_a_split_wim_are_read_by_descriptor(tmp_path: Path) -> None:
    source = two_images(tmp_path)
    subprocess.run([wim_tool.PROGRAM, "split", source, tmp_path / "p.swm", "3"], check=True, capture_output=True)
    paths = [tmp_path / "p.swm", *(tmp_path / f"p{number}.swm" for number in (2, 3))]
    with opened(*paths) as parts:
        wim_tool.verify(parts, unseen)
        wim_tool.export(parts, 1, tmp_path / "out", unseen, bootable=False, with_integrity=False)
    found = wim.check(tmp_path / "out")
    assert ([image.name for image in found.images], found.total_parts, found.integrity) == (["one"], 1, None)
    with opened(*paths[:2]) as parts, pytest.raises(ContentCorrupt, match=r"verify: .*blob not found"):
        wim_tool.verify(parts, unseen)


@with_wimlib
def test_damage_that_is_found_while_decompressing_is_told(tmp_path: Path) -> None:
    source = two_images(tmp_path, "--compress=none")
    with source.open("r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    with opened(source) as parts, pytest.raises(ContentCorrupt, match=r"wimlib-imagex verify: (?!.*/proc/)"):
        wim_tool.verify(parts, unseen)


@with_wimlib
def test_a_full_disk_is_told(tmp_path: Path, small_disk: Path) -> None:
    source = two_images(tmp_path)
    with opened(source) as parts, pytest.raises(LibraryFull, match="wimlib-imagex export: the disk is full; make room"):
        wim_tool.export(parts, 1, small_disk / "out", unseen, bootable=False, with_integrity=False)


@with_wimlib
def test_who_watches_may_end_it(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise ContentError("the library is closing")

    source = two_images(tmp_path)
    with opened(source) as parts, pytest.raises(ContentError, match="the library is closing"):
        wim_tool.verify(parts, stop)


@with_wimlib
def test_an_image_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    source = two_images(tmp_path)
    with opened(source) as parts, pytest.raises(ContentError, match="wimlib-imagex export: ") as refused:
        wim_tool.export(parts, 3, tmp_path / "out", unseen, bootable=False, with_integrity=False)
    assert not isinstance(refused.value, ContentCorrupt)
