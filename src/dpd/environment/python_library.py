# SPDX-License-Identifier: Apache-2.0
"""Python's standard library for an image: compiled, without its sources, without what a machine that is being deployed never
imports. The interpreter that is packaged compiles it, so that both fit; one for another processor cannot run here, then one of
the same release does it, and where there is none the sources go in."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from pathlib import Path

from dpd.environment.architectures import Architecture
from dpd.environment.bytecode import Compiler
from dpd.environment.file_tree import FileTree

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


def put_python(tree: FileTree, architecture: Architecture, interpreter: Path, work: Path) -> Compiler | None:
    """The interpreter as /usr/bin/python3, and the library in its folder. `interpreter`: the unpacked program. Gives back what
    compiles for it."""
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
    compiler = _compiler(tree, architecture, interpreter, sources)
    compiled = sources
    if compiler is not None:
        compiled = work / "compiled"
        compiler.compile(sources, compiled, "/usr/lib/python/")
    for path in sorted(compiled.rglob("*.py*")):
        tree.put(f"{library}/{path.relative_to(compiled).as_posix()}", path)
    return compiler


def _is_wanted(name: str) -> bool:
    parts = name.split("/")
    if UNWANTED.intersection(parts) or parts[0].startswith("config-"):
        return False
    return not (parts[0] == "lib-dynload" and _UNWANTED_EXTENSIONS.search(parts[-1]))


def _compiler(tree: FileTree, architecture: Architecture, interpreter: Path, sources: Path) -> Compiler | None:
    """One that runs a Python of that release; None where there is none."""
    if platform.machine() == _MACHINES[architecture.name]:
        loaders = dict(tree.paths("usr/lib64")) | dict(tree.paths(f"usr/lib/{architecture.libraries}"))
        loader = next((path for name, path in sorted(loaders.items()) if name.startswith("ld-linux")), None)
        folders = {str(path.parent) for path in loaders.values()}
        if loader is not None:
            # It looks for its library beside itself, and there it is in another package.
            return Compiler((str(loader), "--library-path", ":".join(sorted(folders)), str(interpreter)), sources)
    if interpreter.name == f"python3.{sys.version_info.minor}":
        return Compiler()
    found = shutil.which(interpreter.name)
    return Compiler((found,)) if found else None
