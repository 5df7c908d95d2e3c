# SPDX-License-Identifier: Apache-2.0
"""Python's library for an image, out of packages on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dpd.environment.architectures import architecture
from dpd.environment.cpio import Member
from dpd.environment.file_tree import FileTree
from dpd.environment.python_library import put_python
from dpd.errors import BuildError

RELEASE = f"python3.{sys.version_info.minor}"


def tree_of(folder: Path, release: str, source: str) -> FileTree:
    library = folder / "package/usr/lib" / release
    for name in ("os.py", "test/test_os.py", "encodings/__init__.py", "idlelib/run.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(source)
    program = folder / "package/usr/bin" / release
    program.parent.mkdir(parents=True)
    program.write_text("#!python")
    return FileTree({"python": folder / "package"}, "x86_64-linux-gnu")


def put(tree: FileTree, folder: Path, release: str) -> dict[str, Member]:
    work = folder / "work"
    work.mkdir()
    put_python(tree, architecture("x64"), folder / "package/usr/bin" / release, work)
    return {member.name: member for member in tree.members()}


def test_it_is_compiled_without_what_no_target_imports(tmp_path: Path) -> None:
    members = put(tree_of(tmp_path, RELEASE, "answer = 42\n"), tmp_path, RELEASE)
    library = f"usr/lib/{RELEASE}"
    assert {name for name in members if name.startswith(f"{library}/") and "." in name.rpartition("/")[2]} == {
        f"{library}/os.pyc",
        f"{library}/encodings/__init__.pyc",
    }
    assert members["usr/bin/python3"].read() == RELEASE.encode()
    compiled = tmp_path / "os.pyc"
    compiled.write_bytes(members[f"{library}/os.pyc"].read())
    told = (
        f"import importlib.machinery as m; print(m.SourcelessFileLoader('os', {str(compiled)!r}).load_module().answer)"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", told], capture_output=True, text=True, check=True)
    assert ran.stdout == "42\n"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = "names = {'a', 'b', 'c'}\ndef f(x):\n    return x in {'left', 'right', 'middle'}\n"
    made = []
    for number in "12":
        folder = tmp_path / number
        folder.mkdir()
        members = put(tree_of(folder, RELEASE, source), folder, RELEASE)
        made.append(members[f"usr/lib/{RELEASE}/os.pyc"].read())
    assert made[0] == made[1]


def test_a_library_of_a_release_that_nobody_here_runs_comes_as_sources(tmp_path: Path) -> None:
    members = put(tree_of(tmp_path, "python3.99", "answer = 42\n"), tmp_path, "python3.99")
    assert "usr/lib/python3.99/os.py" in members


def test_a_source_that_is_no_python_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match='cannot compile: File "/usr/lib/python/'):
        put(tree_of(tmp_path, RELEASE, "def :\n"), tmp_path, RELEASE)
