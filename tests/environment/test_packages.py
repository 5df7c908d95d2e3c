# SPDX-License-Identifier: Apache-2.0
"""Packages through the real apt, from a repository on the disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.environment.packaged import Repository

from dpd.environment.packages import Package, Packages, described, read_list
from dpd.errors import BuildError


@pytest.fixture
def filled(repository: Repository) -> Repository:
    repository.add("tool", {"usr/bin/tool": b"#!/bin/sh\n"}, needs="library (>= 2)")
    repository.add("library", {"lib/lib.so": b"library"}, version="1:2.5-1")
    repository.add("other", {"usr/bin/other": b"other"})
    repository.add("linux-image-amd64", {}, needs="linux-image-6.1.0-9-amd64 (= 1.0-1)")
    repository.add("linux-image-6.1.0-9-amd64", {"boot/vmlinuz-6.1.0-9-amd64": b"kernel"}, needs="no-such-package")
    return repository


def opened(repository: Repository, tmp_path: Path, *pinned: Package) -> Packages:
    return Packages("amd64", tmp_path / "cache", sources=repository.sources, pinned=pinned)


def test_a_package_comes_with_what_it_needs_and_nothing_else(filled: Repository, tmp_path: Path) -> None:
    packages = opened(filled, tmp_path)
    archives = packages.fetch(["tool"])
    assert sorted(archives) == ["library", "tool"]
    assert described(archives["library"]).version == "1:2.5-1"
    assert (packages.unpacked(archives["library"]) / "lib/lib.so").read_bytes() == b"library"
    assert packages.fetch(["tool"]) == archives, "also where they are here already"


def test_a_kernel_comes_alone(filled: Repository, tmp_path: Path) -> None:
    packages = opened(filled, tmp_path)
    name = packages.kernel("linux-image-amd64")
    assert name == "linux-image-6.1.0-9-amd64"
    (archive,) = packages.fetch([name], with_needed=False).values()
    assert (packages.unpacked(archive) / "boot/vmlinuz-6.1.0-9-amd64").read_bytes() == b"kernel"


def test_the_list_of_a_build_pins_the_next(filled: Repository, tmp_path: Path) -> None:
    told = described(opened(filled, tmp_path).fetch(["other"])["other"])
    assert list(read_list(f"# a comment\n\n{told}\n", "packages.txt")) == [told]
    opened(filled, tmp_path, told).fetch(["other"])
    with pytest.raises(BuildError, match=r"other 1.0-1 .*: the list of packages says other 1.0-1 0000"):
        opened(filled, tmp_path, replace(told, sha256="0" * 64)).fetch(["other"])
    with pytest.raises(BuildError, match=r"'0.9-1' for 'other'"):
        opened(filled, tmp_path, replace(told, version="0.9-1")).fetch(["other"])


def test_two_builds_at_once_share_what_one_of_them_fetches(filled: Repository, tmp_path: Path) -> None:
    def build(_: int) -> bytes:
        packages = opened(filled, tmp_path)
        folders = [packages.unpacked(archive) for archive in packages.fetch(["tool"]).values()]
        return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*.so"))

    with ThreadPoolExecutor(4) as builders:
        assert set(builders.map(build, range(4))) == {b"library"}


def test_a_line_that_is_no_package_is_named() -> None:
    with pytest.raises(BuildError, match=r"packages.txt:2: expected name, version and SHA-256 .*'bash'"):
        list(read_list("# list\nbash\n", "packages.txt"))


def test_a_package_that_nobody_has_is_named(filled: Repository, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-tool"):
        opened(filled, tmp_path).fetch(["no-such-tool"])


def test_a_package_whose_bytes_are_not_those_of_the_index_is_refused(filled: Repository, tmp_path: Path) -> None:
    archive = tmp_path / "repository/pool/other_1.0-1_all.deb"
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    with pytest.raises(BuildError, match=r"Hash Sum mismatch|hash"):
        opened(filled, tmp_path).fetch(["other"])
