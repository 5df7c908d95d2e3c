# SPDX-License-Identifier: Apache-2.0
"""Files of an image, out of packages that were unpacked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpd.environment import elf
from dpd.environment.cpio import FOLDER
from dpd.environment.file_tree import FileTree, merged
from dpd.errors import BuildError

LIBRARIES = "test-linux-gnu"


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    """A real program whose libraries are other packages', and one that lacks them."""
    program = shutil.which("ls")
    assert program is not None
    packages = {name: tmp_path / name for name in ("tool", "libc", "unused")}
    for name, folder in packages.items():
        (folder / "etc").mkdir(parents=True)
        (folder / "etc" / name).write_text(name)
    (packages["tool"] / "bin").mkdir()
    shutil.copy(program, packages["tool"] / "bin/tool")
    for needed in elf.needed(Path(program).read_bytes()):
        place = packages["libc"] / (needed.lstrip("/") if "/" in needed else f"lib/{LIBRARIES}/{needed}")
        place.parent.mkdir(parents=True, exist_ok=True)
        real = place.with_name(f"{place.name}.real")
        real.write_bytes(b"library")
        place.symlink_to(real.name)
    return FileTree(packages, LIBRARIES)


def names(tree: FileTree) -> set[str]:
    return {member.name for member in tree.members() if member.mode & 0o170000 != FOLDER}


def test_a_program_comes_with_its_libraries_and_where_their_links_lead(tree: FileTree) -> None:
    tree.take("usr/bin/tool")
    assert f"usr/lib/{LIBRARIES}/libc.so.6" in names(tree)
    assert f"usr/lib/{LIBRARIES}/libc.so.6.real" in names(tree)
    assert tree.used == {"tool", "libc"}


def test_a_program_is_found_in_either_half_of_what_debian_merged(tree: FileTree) -> None:
    tree.take("/bin/tool")
    assert tree.holds("usr/bin/tool")
    assert (merged("/lib64/ld.so"), merged("etc/x")) == ("usr/lib64/ld.so", "etc/x")


def test_each_folder_above_a_file_is_there_once(tree: FileTree) -> None:
    tree.put("a/b/c", b"text")
    tree.put_folder("a/b", 0o700)
    tree.put_link("a/link", "b/c")
    all_names = [member.name for member in tree.members()]
    assert len(all_names) == len(set(all_names))
    assert {"a", "a/b", "a/b/c", "a/link"} <= set(all_names)


def test_what_no_package_has_is_named(tree: FileTree) -> None:
    with pytest.raises(BuildError, match="/usr/bin/other: in none of the packages"):
        tree.take("usr/bin/other")
    with pytest.raises(BuildError, match="/usr/share/nothing"):
        tree.take_folder("usr/share/nothing")


def test_a_library_that_no_package_has_is_named_with_who_needs_it(tmp_path: Path) -> None:
    program = shutil.which("ls")
    assert program is not None
    (tmp_path / "tool/bin").mkdir(parents=True)
    shutil.copy(program, tmp_path / "tool/bin/tool")
    with pytest.raises(BuildError, match=r"ld-linux|needs lib"):
        FileTree({"tool": tmp_path / "tool"}, LIBRARIES).take("bin/tool")


def test_of_a_folder_only_what_is_wanted_comes(tree: FileTree) -> None:
    tree.take_folder("etc", lambda name: name != "unused")
    assert {name for name in names(tree) if name.startswith("etc/")} == {"etc/tool", "etc/libc"}
