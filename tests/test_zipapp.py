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
    subprocess.run([*ALONE, BUILD, target], check=True)
    return target


def test_it_starts_without_any_installed_package(receiver: Path) -> None:
    run = subprocess.run([*ALONE, receiver, "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "dpd receive" in run.stdout


def test_it_brings_every_module_that_it_imports_later(receiver: Path) -> None:
    """It fails where it cannot reach the distribution point, far behind its imports."""
    command = [*ALONE, receiver, "http://127.0.0.1:1", "LAB00001", "-o", "/dev/null/x", "--patience", "0.2", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode in (1, 4), run.stderr
    assert "Error" not in run.stderr


def test_equal_sources_give_equal_bytes(receiver: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == receiver.read_bytes()
