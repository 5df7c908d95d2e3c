# SPDX-License-Identifier: Apache-2.0
"""A boot.wim as the Windows ADK lays it out, made by wimlib out of files that say where they are from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.boot.signing import ARM64, X64, X86, authority, make_pe, sign

NEEDS_WIMLIB = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="missing: wimlib-imagex (wimtools)"),
]
MACHINES = {"x86": X86, "x64": X64, "arm64": ARM64}
OS_VERSION = "10.0.26100.1742"
FONTS = ("wgl4_boot.ttf", "segmono_boot.ttf", "segoe_slboot.ttf", "chs_boot.ttf")


def with_wimlib(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that needs a WIM."""
    for mark in NEEDS_WIMLIB:
        test = mark(test)
    return test


def signed(generation: str, architecture: str = "x64", filler: bytes = b"\xc3") -> bytes:
    """A UEFI boot manager below one of Microsoft's CAs, as far as names go."""
    return _signed(generation, architecture, filler)


@cache  # each signature is another one
def _signed(generation: str, architecture: str, filler: bytes) -> bytes:
    ca = {"2011": "Microsoft Windows Production PCA 2011", "2023": "Windows UEFI CA 2023"}[generation]
    program = make_pe(subsystem=10, machine=MACHINES[architecture], filler=filler)
    return sign(program, authority(ca).issue("Microsoft Windows"))


def adk_tree(architecture: str = "x64") -> dict[str, bytes]:
    """Path and content of what matters to a network boot; ARM64 has no BIOS."""
    machine = MACHINES[architecture]
    boot = "Windows/Boot"
    files = {
        f"{boot}/EFI/bootmgfw.efi": signed("2011", architecture),
        f"{boot}/EFI/boot.stl": b"revocations",
        f"{boot}/EFI/winsipolicy.p7b": b"policy",
        f"{boot}/EFI/memtest.efi": b"not for the network",
        f"{boot}/EFI/CIPolicies/Active/{{5DAC656C-21AD-4A02-AB49-649917162E70}}.cip": b"cip",
        f"{boot}/EFI/de-DE/bootmgfw.efi.mui": b"deutsch",
        f"{boot}/EFI/en-US/bootmgfw.efi.mui": b"english",
        f"{boot}/EFI_EX/bootmgfw_EX.efi": signed("2023", architecture),
        f"{boot}/PXE/wdsmgfw.efi": signed("2011", architecture, b"\x90"),
        f"{boot}/PXE/en-US/wdsmgfw.efi.mui": b"prompt",
        f"{boot}/Resources/bootres.dll": b"pictures",
        f"{boot}/Resources/en-US/bootres.dll.mui": b"english pictures",
        f"{boot}/DVD/EFI/boot.sdi": b"sdi",
        f"{boot}/DVD/PCAT/boot.sdi": b"another sdi",
        f"{boot}/DVD/EFI/BCD": b"of a disc",
        **{f"{boot}/Fonts/{name}": name.encode() for name in FONTS},
        **{f"{boot}/FONTS_EX/{name.replace('.ttf', '_EX.ttf')}": b"2023 " + name.encode() for name in FONTS},
        "Windows/System32/boot/winload.efi": b"winload.efi",
        "Windows/System32/boot/winload.exe": b"winload.exe",
        "Windows/System32/kernel32.dll": make_pe(machine=machine),  # by which wimlib knows the processor
        "Windows/System32/startnet.cmd": b"wpeinit\r\n",
    }
    if architecture != "arm64":
        names = ("pxeboot.n12", "pxeboot.com", "abortpxe.com", "wdsnbp.com", "bootmgr.exe")
        files |= {f"{boot}/PXE/{name}": name.encode() for name in names}
        files |= {f"{boot}/PCAT/en-US/bootmgr.exe.mui": b"english bios"}
    return files


def make_wim(path: Path, tree: Mapping[str, bytes], *options: str, boot: bool = True) -> Path:
    """Capture the tree; its one image is marked as bootable."""
    root = path.parent / f"{path.name}.tree"
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    mark = ["--boot"] if boot else []
    command = [
        "wimlib-imagex",
        "capture",
        str(root),
        str(path),
        "Microsoft Windows PE (x64)",
        "--compress=LZX",
        *mark,
        *options,
    ]
    for part, number in zip(("MAJOR", "MINOR", "BUILD", "SPBUILD"), OS_VERSION.split("."), strict=True):
        command += ["--image-property", f"WINDOWS/VERSION/{part}={number}"]
    subprocess.run(command, capture_output=True, check=True)
    shutil.rmtree(root)
    return path
