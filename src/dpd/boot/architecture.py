# SPDX-License-Identifier: Apache-2.0
"""For which processor a file is: EFI programs and Linux kernels say so in their first kilobyte."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

HEAD_BYTES = 4096
_MACHINES = {0x014C: "x86", 0x8664: "x64", 0xAA64: "arm64"}  # IMAGE_FILE_MACHINE_*, PE format
_PE_OFFSET = 0x3C
_SETUP_MAGIC_AT, _XLOADFLAGS_AT = 0x202, 0x236  # Documentation/arch/x86/boot.rst
_XLF_KERNEL_64 = 1
_GZIP = b"\x1f\x8b\x08"
_ARM64_MAGIC, _ARM64_MAGIC_AT = b"ARM\x64", 0x38  # Documentation/arch/arm64/booting.rst

# The firmware that each processor's files are for, as option 93 names it. A BIOS runs 64-bit kernels and loaders as well.
FIRMWARE = {"x86": frozenset({"bios", "uefi-x86"}), "x64": frozenset({"bios", "uefi-x64"}), "arm64": frozenset({"uefi-arm64"})}  # fmt: skip
UEFI = {"x86": frozenset({"uefi-x86"}), "x64": frozenset({"uefi-x64"}), "arm64": frozenset({"uefi-arm64"})}


def of_efi_program(path: Path) -> str:
    """ "x86", "x64" or "arm64"; "" for what is no EFI program of these."""
    return _of_pe(_head(path))


def of_kernel(path: Path) -> str:
    """The same of a Linux kernel: a bzImage, an arm64 Image, packed by gzip or not, or any with an EFI stub; "" where it does not
    tell."""
    head = _head(path)
    if head.startswith(_GZIP):
        return "arm64" if _unpacked(head)[_ARM64_MAGIC_AT : _ARM64_MAGIC_AT + 4] == _ARM64_MAGIC else ""
    if head[_SETUP_MAGIC_AT : _SETUP_MAGIC_AT + 4] == b"HdrS" and len(head) > _XLOADFLAGS_AT:
        return "x64" if head[_XLOADFLAGS_AT] & _XLF_KERNEL_64 else "x86"
    if head[_ARM64_MAGIC_AT : _ARM64_MAGIC_AT + 4] == _ARM64_MAGIC:
        return "arm64"
    return _of_pe(head)


def is_ipxe(path: Path) -> bool:
    """Whether an EFI program is an iPXE, by its prompt and by the mark of the scripts that it runs."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        return program.find(b"iPXE> ") >= 0 and program.find(b"#!ipxe") >= 0


def _of_pe(head: bytes) -> str:
    if head[:2] != b"MZ" or len(head) < _PE_OFFSET + 4:
        return ""
    at = struct.unpack_from("<I", head, _PE_OFFSET)[0]
    if head[at : at + 4] != b"PE\0\0" or len(head) < at + 6:
        return ""
    return _MACHINES.get(struct.unpack_from("<H", head, at + 4)[0], "")


def _unpacked(head: bytes) -> bytes:
    """As much as can be had of it; loaders for x86 unpack nothing, so that only other kernels are looked at so."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
    except zlib.error:
        return b""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
