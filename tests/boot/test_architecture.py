# SPDX-License-Identifier: Apache-2.0
"""For which processor a file is."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.boot.conftest import arm64_image, bz_image, efi_program

from dpd.boot.architecture import is_ipxe, of_efi_program, of_kernel

Write = Callable[[str, bytes], Path]


@pytest.mark.parametrize("architecture", ["x86", "x64", "arm64"])
def test_an_efi_program_tells_its_processor(write: Write, architecture: str) -> None:
    path = write("loader.efi", efi_program(architecture))
    assert of_efi_program(path) == architecture
    assert of_kernel(path) == architecture  # a kernel with an EFI stub is such a program


@pytest.mark.parametrize(
    ("kernel", "architecture"),
    [
        (bz_image(), "x64"),
        (bz_image(is_64_bit=False), "x86"),
        (arm64_image(), "arm64"),
        (gzip.compress(arm64_image() + os.urandom(9000)), "arm64"),
        (gzip.compress(bz_image()), ""),  # no loader of such machines unpacks it
        (b"\x1f\x8b\x08" + bytes(900), ""),
    ],
)
def test_a_kernel_tells_its_processor_where_it_can(write: Write, kernel: bytes, architecture: str) -> None:
    assert of_kernel(write("vmlinuz", kernel)) == architecture


@pytest.mark.parametrize(
    "content",
    [b"", b"MZ", b"MZ" + bytes(61), efi_program()[:132], b"MZ" + bytes(58) + struct.pack("<I", 0xFFFFFFF0), b"\x7fELF" * 99],
)  # fmt: skip
def test_what_is_no_efi_program_is_none(write: Write, content: bytes) -> None:
    assert of_efi_program(write("loader.efi", content)) == ""


def test_another_processor_is_none_of_ours(write: Write) -> None:
    program = bytearray(efi_program())
    struct.pack_into("<H", program, 132, 0x5064)  # RISC-V 64
    assert of_efi_program(write("riscv.efi", bytes(program))) == ""


def test_an_ipxe_is_known_by_its_prompt_and_the_mark_of_its_scripts(write: Write) -> None:
    assert is_ipxe(write("a", efi_program(body=b"\0#!ipxe\0iPXE> ")))
    assert not is_ipxe(write("b", efi_program(body=b"#!ipxe")))
    assert not is_ipxe(write("c", efi_program(body=b"iPXE> ")))
