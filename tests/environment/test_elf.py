# SPDX-License-Identifier: Apache-2.0
"""ELF files: what this machine's own programs need, and libraries that its loader takes."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from pathlib import Path

import pytest
from tests.environment.packaged import module

from dpd.environment import elf
from dpd.errors import BuildError

MACHINE = elf.ARM64 if platform.machine() == "aarch64" else elf.X64


def test_a_program_needs_its_loader_and_the_c_library() -> None:
    program = shutil.which("ls") or sys.executable
    found = elf.needed(Path(program).read_bytes())
    assert found[0].startswith("/lib")
    assert "libc.so.6" in found


def test_a_script_needs_nothing() -> None:
    assert elf.needed(b"#!/bin/sh\n") == []
    assert not elf.is_elf(b"")


def test_a_module_s_section_is_found_by_its_name() -> None:
    content = module("jbd2,mbcache", "alias=fs-ext4")
    assert elf.section(content, ".modinfo") == b"depends=jbd2,mbcache\0alias=fs-ext4\0"
    assert elf.section(content, ".text") == b""


def test_the_loader_takes_a_library_of_one_symbol_and_finds_its_bytes(tmp_path: Path) -> None:
    value = bytes(range(48))
    path = tmp_path / "libtest.so.7"
    path.write_bytes(elf.library(MACHINE, "libtest.so.7", "test7_dat", value))
    loaded = ctypes.CDLL(str(path))
    assert bytes((ctypes.c_ubyte * len(value)).in_dll(loaded, "test7_dat")) == value
    with pytest.raises(ValueError, match="test8_dat"):
        ctypes.c_int.in_dll(loaded, "test8_dat")


def test_a_library_that_needs_nothing_says_so() -> None:
    assert elf.needed(elf.library(elf.ARM64, "libtest.so.7", "test7_dat", b"1234")) == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-file"):
        elf.read(tmp_path / "no-such-file")
