# SPDX-License-Identifier: Apache-2.0
"""What is put into an environment, and whether its own scripts are shell."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from dpd.environment import contents
from dpd.environment.architectures import architecture
from dpd.environment.cpio import Member
from dpd.environment.file_tree import FileTree
from dpd.errors import BuildError

FILES = resources.files("dpd.environment") / "files"


def by_name(tree: FileTree) -> dict[str, Member]:
    return {member.name: member for member in tree.members()}


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    return FileTree({"none": tmp_path / "none"}, "x86_64-linux-gnu")


@pytest.mark.parametrize("name", ["init", "lease"])
def test_our_scripts_are_what_busybox_takes_for_shell(name: str) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("missing: busybox")
    ran = subprocess.run([busybox, "sh", "-n"], input=(FILES / name).read_bytes(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_no_link_to_busybox_hides_a_real_program() -> None:
    places = {f"usr/sbin/{name}" if name in contents.IN_SBIN else f"usr/bin/{name}" for name in contents.APPLETS}
    assert not places & {*contents.PROGRAMS, *contents.LINKS, *contents.GRUB_PROGRAMS}
    names = {name.rpartition("/")[2] for name in (*contents.PROGRAMS, *contents.LINKS)}
    assert not names & set(contents.APPLETS), "busybox's comes first on the PATH, or the other one does"


def test_the_target_comes_with_what_the_site_is_trusted_by(tree: FileTree, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"zipapp")
    contents.put_target(tree, tmp_path / "target", 1_700_000_000, authorities=b"PEM", public_key="ab" * 32)
    found = by_name(tree)
    assert found["dpd/dpd-target.pyz"].read() == b"zipapp"
    assert found["dpd/ca.pem"].read() == b"PEM"
    assert found["dpd/signing-key"].read() == b"ab" * 32 + b"\n"
    assert found["dpd/made-at"].read() == b"1700000000\n"
    assert found["init"].mode & 0o111


def test_without_authority_and_key_no_empty_files_are_left(tree: FileTree, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"zipapp")
    contents.put_target(tree, tmp_path / "target", 0, authorities=b"", public_key="")
    assert not {"dpd/ca.pem", "dpd/signing-key"} & set(by_name(tree))


def test_a_kernel_with_no_folder_of_modules_or_two_is_told(tree: FileTree, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="0 folders of modules"):
        contents.put_modules(tree, tmp_path)
    for release in "12":
        (tmp_path / "lib/modules" / release).mkdir(parents=True)
    with pytest.raises(BuildError, match="2 folders of modules"):
        contents.put_modules(tree, tmp_path)


def test_packages_without_python_are_told(tree: FileTree, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no python3"):
        contents.put_library(tree, architecture("x64"), [], tmp_path)


def test_a_target_that_nothing_here_compiles_for_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"zipapp")
    assert contents.compiled_target(tmp_path / "target", None, tmp_path / "work") == tmp_path / "target"
