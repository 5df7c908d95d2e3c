# SPDX-License-Identifier: Apache-2.0
"""Python's standard library for an image: compiled, without its sources, without what a machine that is being deployed never
imports. The interpreter that is packaged compiles it, so that both fit; one for another processor cannot run here, then one of
the same release does it, and where there is none the sources go in."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dpd.environment.architectures import Architecture
from dpd.environment.file_tree import FileTree
from dpd.errors import BuildError

UNWANTED = frozenset(
    ("test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3", "distutils", "pydoc_data", "pydoc.py",
     "dist-packages", "__pycache__", "sqlite3", "dbm", "curses", "venv", "doctest.py", "pdb.py", "wsgiref", "xmlrpc", "tomllib.so",
     "unittest", "__phello__", "EXTERNALLY-MANAGED", "sitecustomize.py", "config-3.11-x86_64-linux-gnu", "config-3.11-aarch64-linux-gnu")
)  # fmt: skip
# Extensions that bring large libraries along, or are there for what is not.
_UNWANTED_EXTENSIONS = re.compile(
    r"_(sqlite3|tkinter|curses|curses_panel|dbm|gdbm|test\w*|xxtest\w*|codecs_(jp|hk|cn|kr|tw|iso2022)|crypt|nis)\b|(nis|readline|ossaudiodev|xx\w*|_xx\w*|audioop)\.cpython"
)
_MACHINES = {"x64": "x86_64", "arm64": "aarch64"}
COMPILE = """
import pathlib, py_compile, sys
root, out = map(pathlib.Path, sys.argv[1:])
for source in sorted(root.rglob("*.py")):
    name = source.relative_to(root)
    target = out / name.with_suffix(".pyc")
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(str(source), str(target), "/usr/lib/python/" + str(name), doraise=True, optimize=0,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def put_python(tree: FileTree, architecture: Architecture, interpreter: Path, work: Path) -> None:
    """The interpreter as /usr/bin/python3, and the library in its folder. `interpreter`: the unpacked program."""
    release = interpreter.name
    tree.take(f"usr/bin/{release}")
    tree.put_link("usr/bin/python3", release)
    library = f"usr/lib/{release}"
    sources = work / "python"
    for name, path in tree.paths(library):
        if _is_wanted(name) and path.exists():  # some are links to what is for development
            if name.endswith(".py"):
                target = sources / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            else:
                tree.take(f"{library}/{name}")
    compiler = _compiler(tree, architecture, interpreter, release)
    if compiler:
        compiled = work / "compiled"
        _compile(compiler, sources, compiled)
        sources = compiled
    for path in sorted(sources.rglob("*.py*")):
        tree.put(f"{library}/{path.relative_to(sources).as_posix()}", path)


def _is_wanted(name: str) -> bool:
    parts = name.split("/")
    if UNWANTED.intersection(parts) or parts[0].startswith("config-"):
        return False
    return not (parts[0] == "lib-dynload" and _UNWANTED_EXTENSIONS.search(parts[-1]))


def _compiler(tree: FileTree, architecture: Architecture, interpreter: Path, release: str) -> Sequence[str]:
    """A command that runs a Python of that release; empty where there is none."""
    if platform.machine() == _MACHINES[architecture.name]:
        loaders = dict(tree.paths("usr/lib64")) | dict(tree.paths(f"usr/lib/{architecture.libraries}"))
        loader = next((path for name, path in sorted(loaders.items()) if name.startswith("ld-linux")), None)
        folders = {str(path.parent) for path in loaders.values()}
        if loader is not None:
            return (str(loader), "--library-path", ":".join(sorted(folders)), str(interpreter))
    if release == f"python3.{sys.version_info.minor}":
        return (sys.executable,)
    found = shutil.which(release)
    return (found,) if found else ()


def _compile(compiler: Sequence[str], sources: Path, compiled: Path) -> None:
    """In an interpreter of its own that has seen nothing else, and with one order of sets: so that equal sources give equal
    bytes."""
    home = {"PYTHONHOME": "", "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    environment = {
        name: value for name, value in (os.environ | home).items() if name not in ("PYTHONHOME", "PYTHONPATH")
    }
    with tempfile.TemporaryDirectory(prefix="dpd-python-") as folder:
        if (
            len(compiler) > 1
        ):  # the packaged one looks for its library beside itself, and there it is in another package
            environment |= {"PYTHONPATH": str(sources), "PYTHONHOME": folder}
        program = Path(folder, "compile.py")
        program.write_text(COMPILE, encoding="ascii")
        try:
            subprocess.run(
                [*compiler, "-S", str(program), str(sources), str(compiled)],
                env=environment, capture_output=True, text=True, check=True, timeout=600,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            raise BuildError(f"{compiler[-1]}: does not compile Python's library: {said[-600:]}") from None
