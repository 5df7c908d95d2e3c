# SPDX-License-Identifier: Apache-2.0
"""What an applied Windows has of its start, as far as names, kinds and signers go; none of it is Microsoft's."""

from __future__ import annotations

import struct
from pathlib import Path

MACHINES = {"x64": 0x8664, "arm64": 0xAA64}
AUTHORITIES = {"2011": "Microsoft Windows Production PCA 2011", "2023": "Windows UEFI CA 2023"}


def efi_program(generation: str = "", architecture: str = "x64", filler: bytes = b"\xc3") -> bytes:
    """A program with one section, and a block where its signature would be that has an authority's name."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, 512)  # headers
    struct.pack_into("<H", optional, 68, 10)  # EFI application
    struct.pack_into("<I", optional, 108, 16)  # data directories
    block = AUTHORITIES[generation].encode() if generation else b""
    table = struct.pack("<IHH", 8 + len(block), 0x0200, 2) + block if generation else b""
    table += bytes(-len(table) % 8)
    if table:
        struct.pack_into("<II", optional, 112 + 8 * 4, 1024, len(table))
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", MACHINES[architecture], 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack("<8sIIII16x", b".text", 512, 4096, 512, 512)
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    return (dos + coff + optional + section).ljust(512, b"\0") + filler.ljust(512, b"\0") + table


def make_windows(root: Path, architecture: str = "x64", *, newer: bool = True) -> Path:
    """Folders in the spelling of Windows; without `newer` as before 2023."""
    files = {
        "Windows/System32/winload.efi": efi_program("2011", architecture),
        "Windows/System32/winload.exe": b"MZ winload",
        "Windows/System32/de-DE/winload.efi.mui": b"texte",
        "Windows/Boot/EFI/bootmgfw.efi": efi_program("2011", architecture),
        "Windows/Boot/EFI/bootmgr.efi": b"older bootmgr",
        "Windows/Boot/EFI/memtest.efi": b"memtest",
        "Windows/Boot/EFI/boot.stl": b"revocations",
        "Windows/Boot/EFI/de-DE/bootmgfw.efi.mui": b"texte",
        "Windows/Boot/Fonts/wgl4_boot.ttf": b"font",
        "Windows/Boot/Resources/bootres.dll": b"pictures",
        "Windows/Boot/PCAT/bootmgr": b"bootmgr",
        "Windows/Boot/PCAT/bootnxt": b"next",
        "Windows/Boot/PCAT/memtest.exe": b"memtest",
        "Windows/Boot/PCAT/de-DE/bootmgr.exe.mui": b"texte",
    }
    if newer:
        files |= {
            "Windows/Boot/EFI_EX/bootmgfw_EX.efi": efi_program("2023", architecture),
            "Windows/Boot/EFI_EX/bootmgr_EX.efi": b"newer bootmgr",
            "Windows/Boot/Fonts_EX/wgl4_boot_EX.ttf": b"newer font",
        }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
