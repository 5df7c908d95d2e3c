# SPDX-License-Identifier: Apache-2.0
"""Small files that say what they are as the real ones do, and machines that ask for them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.boot.tree import BootContext, BootObject

MACHINES = {"x86": 0x14C, "x64": 0x8664, "arm64": 0xAA64}


def efi_program(architecture: str = "x64", body: bytes = b"program") -> bytes:
    """The head of a PE file for this processor."""
    head = bytearray(256)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 128)
    head[128:132] = b"PE\0\0"
    struct.pack_into("<H", head, 132, MACHINES[architecture])
    return bytes(head) + body


def bz_image(*, is_64_bit: bool = True) -> bytes:
    """The head of a Linux kernel for PCs, without an EFI stub."""
    head = bytearray(1024)
    head[0x202:0x206] = b"HdrS"
    head[0x236] = 1 if is_64_bit else 0
    return bytes(head) + b"kernel"


def arm64_image() -> bytes:
    """The head of an arm64 kernel without an EFI stub."""
    head = bytearray(1024)
    head[0x38:0x3C] = b"ARM\x64"
    return bytes(head) + b"kernel"


def a_context(arch: str = "uefi-x64", outcome: str = "boot", ticket_id: str = "t1", **changes: object) -> BootContext:
    """A machine with a ticket."""
    fixed = ("52:54:00:12:34:56", "4c4c4544-0000-1010-8000-b0c04f303030", arch, "192.0.2.1", 8080)
    return replace(BootContext(ticket_id, *fixed, outcome), **changes)  # type: ignore[arg-type]


def content(found: BootObject | None) -> bytes:
    """What is behind a name."""
    assert found is not None
    with os.fdopen(found.open(), "rb") as file:
        return file.read()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Make a file of the operator's."""

    def make(name: str, content: bytes) -> Path:
        path = tmp_path / "given" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return make
