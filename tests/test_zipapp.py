# SPDX-License-Identifier: Apache-2.0
"""`make zipapp`: the receiver as one file, with nothing but Python beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parent.parent / ".ci" / "zipapp.py"
ALONE = (sys.executable, "-I", "-S")  # no site-packages, no environment


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("zipapp"))


def build(directory: Path) -> Path:
    target = directory / "dpd-receive.pyz"
    subprocess.run([*ALONE, str(BUILD), str(target)], check=True)
    return target


def test_it_starts_without_any_installed_package(receiver: Path) -> None:
    run = subprocess.run([*ALONE, str(receiver), "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "dpd receive" in run.stdout


def test_it_brings_what_it_imports_on_the_way(receiver: Path, tmp_path: Path) -> None:
    """4: the distribution point is out of reach, which it finds out far behind its imports."""
    options = ("-o", str(tmp_path / "image"), "--patience", "0.2", "--json")
    command = [*ALONE, str(receiver), "http://127.0.0.1:1", "LAB00001", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 4, run.stderr


def test_equal_sources_give_equal_bytes(receiver: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == receiver.read_bytes()
