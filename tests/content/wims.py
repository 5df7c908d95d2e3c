# SPDX-License-Identifier: Apache-2.0
"""WIMs that wimlib makes, for tests that need a real one."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

needs_wimlib = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="missing: wimlib-imagex (wimtools)"),
]
PRO = {
    "ARCH": "9",
    "EDITIONID": "Professional",
    "LANGUAGES/LANGUAGE": "de-DE",
    "LANGUAGES/DEFAULT": "de-DE",
    "VERSION/MAJOR": "10",
    "VERSION/MINOR": "0",
    "VERSION/BUILD": "26100",
    "VERSION/SPBUILD": "1",
}
CORE = PRO | {"EDITIONID": "Core"}


def wimlib(*arguments: str | Path) -> str:
    ran = subprocess.run(["wimlib-imagex", *map(str, arguments)], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode("utf-8", "replace")


def make_files(folder: Path, seed: int, *, count: int = 8, size_bytes: int = 100_000) -> Path:
    """Random files, which no compression makes smaller; the first of them the same for every seed."""
    folder.mkdir(parents=True)
    for number in range(count):
        content = random.Random(f"{seed if number else 0}.{number}").randbytes(size_bytes)
        (folder / f"{number}.bin").write_bytes(content)
    return folder


def two_images(folder: Path, *options: str, name: str = "install.wim") -> Path:
    """Windows 11 Pro and Core, as far as their XML goes; options are those of the capture."""
    path = folder / name
    for index, (verb, properties) in enumerate((("capture", PRO), ("append", CORE)), 1):
        tree = make_files(folder / f"tree{index}", index)
        told = [f"--image-property=WINDOWS/{key}={value}" for key, value in properties.items()]
        more = options if verb == "capture" else [each for each in options if each == "--check"]
        wimlib(verb, tree, path, f"Windows 11 {properties['EDITIONID']}", *told, *more)
        shutil.rmtree(tree)
    return path
